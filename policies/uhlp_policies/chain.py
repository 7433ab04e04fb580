"""The chain of policies that every LLM call and tool call passes: ALLOW, DENY or REDACT.

Compiled once per commit; a decision does no I/O. The platform's policies come first and an app's cannot undo
them: a rule that allows ends its own policy only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from heapq import merge
from typing import Any, Self

import re2

from uhlp_core.errors import UhlpError
from uhlp_policies.detectors import Finder, Span
from uhlp_policies.shipped import shipped_policy
from uhlp_state.model.policies import Condition, Policy, PolicyAction, PolicyEvent, PolicyRule, compiled
from uhlp_state.snapshot import AppSnapshot

QUICK_WEIGHT = 4096
"""Characters of content that the shipped rules look through in a few milliseconds at worst, and mostly in
less time than it takes to hand it to a thread."""

ITEM_WEIGHT = 64
"""In characters, of looking at a value at all."""

MAX_KNOWN = 1000
"""Pairs of tool and component for which the rules that concern them are remembered."""

_ABSENT = object()


class PolicyDenied(UhlpError):
    """A policy refuses the call; the text names the rule."""

    code = "POLICY_DENIED"


class PolicyUnusable(UhlpError):
    """The policies in force cannot be used, so nothing is allowed; the text says why."""

    code = "POLICY_UNUSABLE"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a call."""

    action: PolicyAction
    content: Any
    """What goes on: as given, or with everything redacted that was found."""
    rule: str = ""
    """`<policy>/<rule>` that decided; the last one that redacted; empty if none concerned the call."""
    message: str = ""
    """Of a refusal, for the caller."""
    redactions: Mapping[str, int] = field(default_factory=dict)
    """How many pieces were replaced, by kind."""

    def allowed(self) -> Any:
        """The content. Raises PolicyDenied."""
        if self.action == PolicyAction.DENY:
            raise PolicyDenied(self.message)
        return self.content


class PolicyChain:
    """Policies in the order in which they are asked."""

    def __init__(self, own: Iterable[tuple[str, Policy]], shipped: Iterable[tuple[str, Policy]] = ()) -> None:
        """An app's `own` policies and those that ship with the platform, as pairs of a name for people and
        a policy.
        """
        self._shipped = [_CompiledPolicy(name, policy) for name, policy in shipped]
        self._policies = [*self._shipped, *(_CompiledPolicy(name, policy) for name, policy in own)]
        self._concerned: dict[
            tuple[PolicyEvent, str, str | None], list[tuple[_CompiledPolicy, list[_Rule]]]
        ] = {}

    @classmethod
    def of(cls, snapshot: AppSnapshot) -> Self:
        """The policies that hold for an app at a commit. Slow where they have many patterns.

        Raises PolicyUnusable for one that an older release took.
        """
        shipped = [(f"shipped/{name}", shipped_policy(name)) for name in snapshot.shipped_policies]
        try:
            return cls(snapshot.policies.items(), shipped)
        except re2.error:
            raise PolicyUnusable(
                f"a policy of {snapshot.app} has a regular expression that is too large for this release, so "
                "no call can be decided: push a smaller one"
            ) from None

    def concerns(self, event: PolicyEvent, *, tool: str = "", component: str | None = "") -> bool:
        """Whether any rule looks at such calls. `component` is as for `decide`."""
        return bool(self._concerning(event, tool, component))

    def is_quick(
        self, event: PolicyEvent, content: Any, *, tool: str = "", component: str | None = ""
    ) -> bool:
        """Whether a decision holds nobody up: over little content, by shipped rules only.

        How long those of an app take is the app's choice.
        """
        return not _is_heavy(content) and all(
            policy in self._shipped for policy, _ in self._concerning(event, tool, component)
        )

    def decide(
        self, event: PolicyEvent, content: Any, *, tool: str = "", component: str | None = ""
    ) -> Decision:
        """Decide over plain JSON: a tool's arguments or result, an LLM's messages or answer.

        `component` is that of the caller; empty for calls from outside, and None where a sandbox does not say
        which of its components calls: that escapes no rule that denies or redacts.
        """
        redactions: dict[str, int] = {}
        rule_name = ""
        for policy, rules in self._concerning(event, tool, component):
            allowed = False
            for rule in rules:
                if not rule.holds(content):
                    continue
                action = rule.action
                if action == PolicyAction.REDACT:
                    content, found = rule.redacted(content)
                    if found:
                        rule_name = rule.name
                        for kind, count in found.items():
                            redactions[kind] = redactions.get(kind, 0) + count
                    continue
                if rule.finds_nothing(content):
                    continue
                if action == PolicyAction.DENY:
                    return _denied(rule.name, rule.message, content, redactions)
                allowed = True
                break
            if event == PolicyEvent.TOOL_CALL and policy.denies_others and not allowed:
                return _denied(policy.name, _not_allowed(tool, rules), content, redactions)
        action = PolicyAction.REDACT if redactions else PolicyAction.ALLOW
        return Decision(action, content, rule_name, redactions=redactions)

    def _concerning(
        self, event: PolicyEvent, tool: str, component: str | None
    ) -> list[tuple[_CompiledPolicy, list[_Rule]]]:
        key = (event, tool, component)
        known = self._concerned.get(key)
        if known is None:
            known = [
                (policy, rules)
                for policy in self._policies
                if (rules := [rule for rule in policy.rules if rule.concerns(event, tool, component)])
                or (policy.denies_others and event == PolicyEvent.TOOL_CALL)
            ]
            if len(self._concerned) >= MAX_KNOWN:
                self._concerned.clear()
            self._concerned[key] = known
        return known


def _denied(name: str, message: str, content: Any, redactions: Mapping[str, int]) -> Decision:
    return Decision(
        PolicyAction.DENY, content, name, f"the policy {name} refuses this: {message}", redactions
    )


def _not_allowed(tool: str, rules: Iterable[_Rule]) -> str:
    """Why an allow-list refuses; `rules` are those that looked at the call."""
    unmet = ", ".join(rule.id for rule in rules if rule.action == PolicyAction.ALLOW)
    message = f"no rule of it allows this call of {tool} (`otherTools: DENY`)"
    return f"{message}; what these ask for does not hold: {unmet}" if unmet else message


class _CompiledPolicy:
    def __init__(self, name: str, policy: Policy) -> None:
        self.name = name
        self.rules = [_Rule(name, rule) for rule in policy.rules]
        self.denies_others = policy.other_tools == PolicyAction.DENY


class _Rule:
    """One rule, its patterns compiled."""

    def __init__(self, policy: str, rule: PolicyRule) -> None:
        self.id = rule.id
        self.name = f"{policy}/{rule.id}"
        self.action = rule.action
        self.message = rule.message or rule.description or "not allowed here"
        self._events = frozenset(rule.events)
        self._tools = _globs(rule.tools)
        self._components = _globs(rule.components)
        self._conditions = [_condition(condition) for condition in rule.when]
        self._larger_than = rule.larger_than
        self._finder = Finder(rule.detect) if rule.detect else None
        self._patterns = [compiled(pattern) for pattern in rule.patterns]
        self._looks = bool(self._finder or self._patterns)

    def concerns(self, event: PolicyEvent, tool: str, component: str | None) -> bool:
        return (
            event in self._events
            and (self._tools is None or self._tools.fullmatch(tool) is not None)
            and (self._components is None or self._concerns_component(self._components, component))
        )

    def _concerns_component(self, named: re.Pattern[str], component: str | None) -> bool:
        if component is None:
            return self.action != PolicyAction.ALLOW
        return named.fullmatch(component) is not None

    def holds(self, content: Any) -> bool:
        """Whether its conditions and its bound of size hold; what it looks for is another question."""
        if self._larger_than is not None and _size(content) <= self._larger_than:
            return False
        return all(condition(content) for condition in self._conditions)

    def finds_nothing(self, content: Any) -> bool:
        """Whether it looks for something that is not there."""
        return self._looks and not any(next(self._spans(text), None) for text in _texts(content))

    def redacted(self, content: Any) -> tuple[Any, dict[str, int]]:
        """The content without what it looks for, and how much of each kind that was."""
        found: dict[str, int] = {}
        return mapped(content, lambda text: self._redact(text, found)), found

    def _redact(self, text: str, found: dict[str, int]) -> str:
        parts: list[str] = []
        end = 0
        for (start, stop), kind in self._spans(text):
            if stop <= end:
                continue
            parts += (text[end : max(start, end)], f"[{kind} redacted]")
            end = stop
            found[kind] = found.get(kind, 0) + 1
        if not parts:
            return text
        parts.append(text[end:])
        return "".join(parts)

    def _spans(self, text: str) -> Iterator[tuple[Span, str]]:
        """What it looks for, from left to right; merged and not sorted, which would hold up all threads."""
        found = self._finder.find(text) if self._finder else iter(())
        patterns = [_pattern_spans(pattern, text) for pattern in self._patterns]
        return merge(found, *patterns) if patterns else found


def _pattern_spans(pattern: Any, text: str) -> Iterator[tuple[Span, str]]:
    for match in pattern.finditer(text):
        if match.end() > match.start():
            yield match.span(), "pattern"


def _globs(names: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(translate(name) for name in names)) if names else None


def _condition(condition: Condition) -> Callable[[Any], bool]:
    path = condition.argument.split(".")
    pattern = compiled(condition.matches) if condition.matches is not None else None
    least, most = condition.at_least, condition.at_most

    def holds(arguments: Any) -> bool:
        value = _at(arguments, path)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        met = value is not _ABSENT and (
            (condition.equals is None or _same(value, condition.equals))
            and (condition.one_of is None or any(_same(value, one) for one in condition.one_of))
            and (pattern is None or (isinstance(value, str) and pattern.search(value) is not None))
            and (least is None or (is_number and value >= least))
            and (most is None or (is_number and value <= most))
        )
        return met is not condition.negate

    return holds


def _same(value: Any, expected: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return bool(value == expected) and isinstance(value, bool) is isinstance(expected, bool)


def _at(value: Any, path: list[str]) -> Any:
    for name in path:
        if isinstance(value, dict):
            value = value.get(name, _ABSENT)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return _ABSENT
    return value


def _size(content: Any) -> int:
    """Bytes of all its strings, without the keys of objects: those are form."""
    if isinstance(content, str):
        return len(content.encode(errors="surrogatepass"))
    if isinstance(content, dict):
        return sum(map(_size, content.values()))
    return sum(map(_size, content)) if isinstance(content, list) else 0


def _is_heavy(content: Any) -> bool:
    """Whether it weighs more than QUICK_WEIGHT, which is known after looking at that much of it."""
    weight = ITEM_WEIGHT
    level = [content]
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                weight += len(value)
            elif isinstance(value, int):
                weight += value.bit_length() // 3  # its digits, about
            elif isinstance(value, dict | list):
                weight += ITEM_WEIGHT * len(value) * (2 if isinstance(value, dict) else 1)
            if weight > QUICK_WEIGHT:
                return True
            if isinstance(value, dict):
                below += (*value, *value.values())
            elif isinstance(value, list):
                below += value
        level = below
    return False


def _texts(content: Any) -> Iterator[str]:
    """Every string and number, keys included: data hides there as well."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield str(content)
    elif isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)


def mapped(content: Any, change: Callable[[str], str]) -> Any:
    """Plain JSON with every string changed, keys included; a number in which something was found is text."""
    if isinstance(content, str):
        return change(content)
    if isinstance(content, int | float) and not isinstance(content, bool):
        text = str(content)
        return content if (changed := change(text)) == text else changed
    if isinstance(content, dict):
        return {change(key): mapped(value, change) for key, value in content.items()}
    if isinstance(content, list):
        return [mapped(value, change) for value in content]
    return content
