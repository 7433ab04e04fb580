"""What others send in answer to an app, weighed before anything is made of it.

A provider of models or a server of tools chooses what this process parses, on the loop that serves all apps.
So each message is bounded in bytes and values, and what those of one app take of memory and time as well.
Knows of protocols only where their messages end.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from dataclasses import dataclass

import httpx2

from uhlp_mcp.json_values import has_more_values, most_values
from uhlp_mcp.message_memory import MAX_OF_APP, SMALL_BYTES, MessageMemory, Share, TooMuchAtOnce
from uhlp_mcp.outbound import ResponseRefused

RATE = 16 * 1024 * 1024
"""Weight of an app's messages that is let through in a second, of which reading so much takes a fifth."""

BURST_SECONDS = 1.0
"""Of that rate, at once: far more than ordinary messages come to."""

MAX_REMEMBERED = 1000
"""Apps whose rate is kept, before those are forgotten that send nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one message."""

    max_bytes: int
    max_values: int
    """In JSON: texts, numbers, lists and objects, at all depths."""
    base_weight: int
    """What any message counts for besides its bytes: the work that even the smallest makes."""
    value_weight: int
    """What each of its values counts for."""


@dataclass(frozen=True, slots=True)
class Framing:
    """Where a message ends in a stream of bytes."""

    end: re.Pattern[bytes] | None
    """Seen in three bytes at most; without one, a message ends with the stream."""
    data: re.Pattern[bytes] | None = None
    """The parts of a message that are JSON; without it, all is."""

    def json(self, message: bytes) -> bytes:
        """What of a message is parsed as JSON."""
        return message if self.data is None else b"\n".join(self.data.findall(message))


WHOLE = Framing(None)
LINES = Framing(re.compile(rb"\n"))
EVENTS = Framing(re.compile(rb"\n\r?\n|\r\r|\n\r(?=[^\n])"), re.compile(rb"(?:\A|[\r\n])data:([^\r\n]*)"))
"""Server-sent events: they end with an empty line, and lines with any of the three ends that there are."""

_OVERLAP = 2
"""Bytes of an end that can have come with the piece before."""


class TooMuch(Exception):
    """A message is not taken; the text says why."""


class Intake:
    """What all apps are sent by one kind of sender."""

    def __init__(self) -> None:
        self._memory = MessageMemory()
        self._paid: dict[str, float] = {}
        """Until when the rate of an app is used up, in seconds of the monotonic clock."""

    async def messages(
        self, app: str, pieces: AsyncIterable[bytes], framing: Framing, limits: Limits
    ) -> AsyncGenerator[bytes]:
        """The messages in a stream of bytes, with their ends, as fast as the app may get them.

        Raises TooMuch.
        """
        rest = bytearray()
        with self._memory.share(app) as share:
            async for piece in pieces:
                start, looked = 0, max(0, len(rest) - _OVERLAP)
                rest += piece
                _hold(share, len(rest))
                if framing.end is not None:
                    for found in framing.end.finditer(rest, looked):
                        message = bytes(rest[start : found.end()])
                        start = found.end()
                        await self._admit(app, message, framing, limits)
                        yield message
                    del rest[:start]
                    _hold(share, len(rest))
                if len(rest) > limits.max_bytes:
                    raise TooMuch(f"it is larger than {limits.max_bytes} bytes")
            if rest:
                message = bytes(rest)
                await self._admit(app, message, framing, limits)
                yield message

    async def _admit(self, app: str, message: bytes, framing: Framing, limits: Limits) -> None:
        """Wait until a message may be read. Raises TooMuch for one that may not."""
        if len(message) > limits.max_bytes:
            raise TooMuch(f"it is larger than {limits.max_bytes} bytes")
        values = most_values(message)
        weight = limits.base_weight + len(message) + limits.value_weight * min(values, limits.max_values)
        now = time.monotonic()
        if len(self._paid) >= MAX_REMEMBERED:
            self._paid = {other: until for other, until in self._paid.items() if until > now}
        paid = self._paid[app] = max(now, self._paid.get(app, now)) + weight / RATE
        if paid - now > BURST_SECONDS:
            await asyncio.sleep(paid - now - BURST_SECONDS)
        if values > limits.max_values and has_more_values(framing.json(message), limits.max_values):
            raise TooMuch(f"it has more than {limits.max_values} values")


class WeighedBody(httpx2.AsyncByteStream):
    """A response's body, passed on message by message."""

    def __init__(
        self,
        intake: Intake,
        app: str,
        stream: httpx2.SyncByteStream | httpx2.AsyncByteStream,
        framing: Framing,
        limits: Limits,
        *,
        skips: bool = False,
    ) -> None:
        """At a message that is too much the body ends, in ResponseRefused unless it `skips`."""
        assert isinstance(stream, httpx2.AsyncByteStream)
        self._stream = stream
        self._messages = intake.messages(app, stream, framing, limits)
        self._skips = skips

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for message in self._messages:
                yield message
        except TooMuch as error:
            if not self._skips:
                raise ResponseRefused(str(error)) from None

    async def aclose(self) -> None:
        await self._messages.aclose()
        await self._stream.aclose()


def _hold(share: Share, size: int) -> None:
    try:
        share.hold(size if size > SMALL_BYTES else 0)
    except TooMuchAtOnce:
        raise TooMuch(
            f"messages to the app that are under way take the {MAX_OF_APP} bytes that they may"
        ) from None
