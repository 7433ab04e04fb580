"""What every provider is given and gives back: plain data, and the one method they all have."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from uhlp_mcp.llm.strict_schema import strict_form
from uhlp_mcp.tools import Emit

MAX_COMPLETION_BYTES = 1024 * 1024
"""Of one answer's text: ten times the longest that models write, and little enough to check and to keep."""

BYTES_PER_TOKEN = 3
"""For counting where a provider does not; real text has about four."""

MAX_COUNT = 2**31
"""Tokens that one attempt can have used: beyond any model, and so little that sums stay below 64 bits."""

MESSAGE_OVERHEAD_TOKENS = 16
"""Tokens that a provider adds around one message, at most."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one model."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    parameters: Mapping[str, Any]
    """Some of LLM_PARAMETERS, without `max_tokens`."""
    json_schema: Mapping[str, Any] | None = None
    """The schema of the answer, for providers that can hold a model to one."""
    prompt_name: str = ""

    @property
    def most_input_tokens(self) -> int:
        """An upper bound: no tokeniser makes more tokens than there are bytes."""
        return _schema_bytes(self.json_schema) + sum(
            len(message.content.encode()) + MESSAGE_OVERHEAD_TOKENS for message in self.messages
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer."""

    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int


def _schema_bytes(schema: Mapping[str, Any] | None) -> int:
    """The most that a provider is sent of a schema beside the messages: as it is, or in its strict form."""
    if schema is None:
        return 0
    form = strict_form(schema)
    return max(len(orjson.dumps(schema)), 0 if form is None else form.size)


class Provider(Protocol):
    """Asks models."""

    async def complete(self, request: Request, emit: Emit | None) -> Completion:
        """Ask once, without trying again; with `emit`, parts of the text are told as they come.

        Raises LlmError.
        """
        ...


def counted(reported: object, text: str) -> int:
    """The tokens that a provider reports, or an estimate from the text where that is no count."""
    if isinstance(reported, int) and not isinstance(reported, bool) and 0 <= reported <= MAX_COUNT:
        return reported
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)
