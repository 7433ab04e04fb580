"""The rules of a scripted provider: answers without a model, for examples and tests."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from uhlp_state.model.base import KEY, Count, Model, Name, Number, any_case, refusal
from uhlp_state.problems import Code, quoted

MAX_DELAY_SECONDS = 600.0


class ScriptedFailure(StrEnum):
    """How a scripted reply fails."""

    RATE_LIMITED = "rateLimited"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    BAD_REQUEST = "badRequest"
    CUT = "cut"


def _check_regex(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        remedy = "correct the regular expression (Python's syntax)"
        raise refusal(Code.BAD_PATTERN, f"{KEY} cannot be read: {quoted(error)}", remedy) from None
    return text


class ScriptedMatch(Model):
    """When a rule answers: all of these that are given must hold."""

    model: Name | None = None
    """The model that is asked for, without the provider."""
    prompt_name: Name | None = None
    """The prompt's name, as given with the call."""
    contains: str | None = None
    """A text that the system and user messages contain."""
    regex: Annotated[str, AfterValidator(_check_regex)] | None = Field(default=None, max_length=1000)
    """A regular expression found in the system and user messages; `{{1}}` or `{{name}}` repeats a group."""


class ScriptedReply(Model):
    """One answer, or one failure."""

    text: str | None = None
    """The answer; `{{1}}` and `{{name}}` stand for groups of the rule's `regex`."""
    json_value: JsonValue = Field(default=None, alias="json")
    """The answer as a value, written out as JSON; groups are filled into its texts."""
    chunks: tuple[str, ...] = ()
    """The answer in the pieces that a stream sends."""
    delay_seconds: Number = Field(default=0.0, ge=0, le=MAX_DELAY_SECONDS)
    """Seconds before the answer, or before each chunk. Default 0."""
    fail: Annotated[ScriptedFailure, *any_case(ScriptedFailure)] | None = None
    """Fail instead; `cut` breaks off after the text or chunks."""
    retry_after_seconds: Number | None = Field(default=None, ge=0)
    """With `fail: rateLimited` or `unavailable`: when to come again."""
    finish_reason: Name = "stop"
    """Default `stop`."""
    input_tokens: Count | None = Field(default=None, ge=0)
    """Tokens to count for the question. Default: a quarter of its characters."""
    output_tokens: Count | None = Field(default=None, ge=0)
    """Tokens to count for the answer. Default: a quarter of its characters."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        given = [name for name in ("text", "json_value", "chunks") if name in self.model_fields_set]
        if len(given) > 1 or (not given and self.fail is None):
            remedy = "keep one of the three, or write `fail`"
            raise refusal(Code.BAD_VALUE, "a reply is one of `text`, `json` and `chunks`", remedy)
        return self


class ScriptedRule(Model):
    """What is answered when."""

    match: ScriptedMatch = ScriptedMatch()
    """When the rule answers. Default: always."""
    replies: tuple[ScriptedReply, ...] = Field(min_length=1)
    """The answers, in turn; after the last the first comes again."""


class ScriptedRules(Model):
    """The rules of a scripted provider; the first that matches answers (`state/llm/*.yaml`)."""

    rules: tuple[ScriptedRule, ...] = Field(min_length=1)
    """The rules, in order."""
