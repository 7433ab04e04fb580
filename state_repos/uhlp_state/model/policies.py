"""What calls of LLMs and tools may do: rules that apps and the platform declare (`state/policies/*.yaml`)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Self

import re2
from pydantic import AfterValidator, Field, JsonValue, ValidationInfo, model_validator

from uhlp_state.model.base import KEY, Count, Flag, Model, Name, Number, any_case, refusal
from uhlp_state.model.patterns import RULE_ID
from uhlp_state.problems import Code, quoted

MAX_RULES = 200
"""Of one policy: every call is held against all that concern it."""

MAX_PATTERN = 1000
"""Characters of a regular expression."""

MAX_PATTERN_BYTES = 512 * 1024
"""Of memory for a compiled one, which takes some milliseconds; a short one could take most of a second."""

MAX_PATTERNS = 500
"""Regular expressions in all policies of one app."""


class PolicyAction(StrEnum):
    """What a rule does with a call that it matches."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    REDACT = "REDACT"


class PolicyEvent(StrEnum):
    """What a rule looks at."""

    LLM_REQUEST = "llm.request"
    LLM_RESPONSE = "llm.response"
    TOOL_CALL = "tool.call"
    TOOL_RESULT = "tool.result"


class ShippedPolicy(StrEnum):
    """The policies that ship with the platform."""

    SECRETS = "secrets"
    PERSONAL_DATA = "personal-data"


class Detector(StrEnum):
    """Kinds of personal and secret data that are known by their form."""

    CARD = "card"
    IBAN = "iban"
    EMAIL = "email"
    PHONE = "phone"
    KEY = "key"


CHECKED: Final = {"checked": True}
"""Validation context for policies that were accepted before: their patterns are not compiled once more."""


def compiled(pattern: str) -> Any:
    """A regular expression that is matched in linear time. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_PATTERN_BYTES
    return re2.compile(pattern, options)


def _check_pattern(text: str, info: ValidationInfo) -> str:
    if info.context is CHECKED:
        return text
    try:
        compiled(text)
    except re2.error as error:
        told = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise refusal(
            Code.BAD_VALUE,
            f"{KEY} is not a regular expression that is matched in linear time: {quoted(told)}",
            "correct it; look-around and back-references are not available (RE2 syntax), nor are large "
            "repetitions of large classes",
        ) from None
    return text


Pattern = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN), AfterValidator(_check_pattern)]


class Condition(Model):
    """Something that must hold of an argument of a tool call."""

    argument: Name
    """The argument: `command`, or by dots within it, `options.limit`, `args.0`."""
    equals: JsonValue | None = None
    """It is exactly this; for null write `oneOf: [null]`."""
    one_of: tuple[JsonValue, ...] | None = None
    """It is one of these."""
    matches: Pattern | None = None
    """It is text in which this regular expression (RE2) is found; anchor it with `^` and `$`."""
    at_least: Number | None = None
    """It is a number, this or more."""
    at_most: Number | None = None
    """It is a number, this or less."""
    negate: Flag = False
    """True turns the condition round; it then also holds where the argument is missing."""

    @model_validator(mode="after")
    def _check_one_test(self) -> Self:
        tests = (self.equals, self.one_of, self.matches, self.at_least, self.at_most)
        if all(test is None for test in tests):
            raise refusal(
                Code.MISSING_KEY,
                "a condition tests nothing",
                "add `equals`, `oneOf`, `matches`, `atLeast` or `atMost`",
            )
        return self


class PolicyRule(Model):
    """One rule. It matches if everything that it names holds."""

    id: str = Field(pattern=RULE_ID)
    """Unique in the policy; told in refusals and in the audit log."""
    description: str = ""
    """For people."""
    events: tuple[Annotated[PolicyEvent, *any_case(PolicyEvent)], ...]
    """`llm.request`, `llm.response`, `tool.call`, `tool.result`: what it looks at."""
    tools: tuple[Name, ...] = ()
    """Tools that it concerns, `*` for any part: `core.linux.*`. Default all."""
    components: tuple[Name, ...] = ()
    """Components that it concerns, likewise. Default all, and calls from outside."""
    when: tuple[Condition, ...] = Field(default=(), max_length=20)
    """Conditions on a tool's arguments; all must hold."""
    larger_than: Count | None = Field(default=None, ge=0)
    """It matches content of more than so many bytes of text."""
    detect: tuple[Annotated[Detector, *any_case(Detector)], ...] = ()
    """It matches content that holds `card` and `iban` numbers with a right checksum, `email`, `phone`, or
    `key` (keys and tokens)."""
    patterns: tuple[Pattern, ...] = Field(default=(), max_length=20)
    """It matches content in which one of these regular expressions (RE2) is found."""
    action: Annotated[PolicyAction, *any_case(PolicyAction)]
    """`DENY` refuses the call. `REDACT` replaces what was found. `ALLOW` ends this policy: its later rules
    are not asked, other policies are."""
    message: str = Field(default="", max_length=500)
    """What the caller is told of a refusal."""

    @model_validator(mode="after")
    def _check_sense(self) -> Self:
        if self.action == PolicyAction.REDACT and not (self.detect or self.patterns):
            raise refusal(
                Code.MISSING_KEY,
                f"the rule {quoted(self.id)} redacts nothing",
                "say what, with `detect` or `patterns`",
            )
        events = set(self.events)
        if not events:
            raise refusal(
                Code.MISSING_KEY,
                f"the rule {quoted(self.id)} looks at nothing",
                f"write `events: [{PolicyEvent.TOOL_CALL}]`, or others",
            )
        if self.tools and not events <= {PolicyEvent.TOOL_CALL, PolicyEvent.TOOL_RESULT}:
            raise refusal(
                Code.BAD_VALUE,
                f"the rule {quoted(self.id)} names tools for events that have none",
                "use `tools` with `events: [tool.call]` or `[tool.result]` only",
            )
        if self.when and events != {PolicyEvent.TOOL_CALL}:
            raise refusal(
                Code.BAD_VALUE,
                f"the rule {quoted(self.id)} has conditions on arguments of events that have none",
                "use `when` with `events: [tool.call]` only",
            )
        return self


class Policy(Model):
    """A list of rules (`state/policies/*.yaml`)."""

    description: str = ""
    """For people."""
    rules: tuple[PolicyRule, ...] = Field(default=(), max_length=MAX_RULES)
    """Asked in order, until one denies or allows."""
    other_tools: Annotated[PolicyAction, *any_case(PolicyAction)] = PolicyAction.ALLOW
    """What becomes of tool calls that no rule here allows; `DENY` makes this an allow-list. Default ALLOW."""

    @property
    def pattern_count(self) -> int:
        """How many regular expressions it has."""
        return sum(
            len(rule.patterns) + sum(condition.matches is not None for condition in rule.when)
            for rule in self.rules
        )

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise refusal(
                    Code.BAD_VALUE, f"two rules have the id {quoted(rule.id)}", "give each rule its own id"
                )
            seen.add(rule.id)
        if self.other_tools == PolicyAction.REDACT:
            raise refusal(
                Code.BAD_VALUE, "otherTools cannot be REDACT", "write DENY or ALLOW, or a rule that redacts"
            )
        return self
