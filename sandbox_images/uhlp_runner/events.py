"""A streamed answer of `POST /execute`: server-sent events in chunks, begun with the first of them.

Until then nothing is sent, so a request that fails before it says anything fails with its own HTTP status.
"""

import asyncio
import json

from . import failure

_HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    "Connection: close\r\nX-Request-ID: {}\r\n{}\r\n"
)
_SCRIPTED = "X-LLM-Scripted: true\r\n"


class Events:
    """The events of one answer: `{"delta": text}` as often as there is text, then `result` or `error`."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._started = False
        self.request_id = ""
        self.wanted = False
        """Whether the request asked for events."""
        self.scripted = False
        """Whether no language model writes the answer, which its head says."""

    def take(self, status: int) -> bool:
        """Whether an answer of this status goes out as the last event, and not as a response of its own."""
        return self._started or (self.wanted and status == 200)

    async def delta(self, text: str, scripted: bool) -> None:
        """Send a piece of text; waits while the reader is slow. Raises Failure where it has gone."""
        self.scripted |= scripted
        self._send(b"data: " + json.dumps({"delta": text}, ensure_ascii=False).encode())
        try:
            await self._writer.drain()
        except ConnectionError:
            raise failure.cancelled() from None

    def end(self, status: int, body: bytes) -> None:
        """Send what `POST /execute` would have answered, and the end."""
        self._send(b"event: %b\ndata: %b" % (b"result" if status == 200 else b"error", body))
        self._writer.write(b"0\r\n\r\n")

    def _send(self, event: bytes) -> None:
        if not self._started:
            self._started = True
            head = _HEAD.format(self.request_id, _SCRIPTED if self.scripted else "")
            self._writer.write(head.encode())
        self._writer.write(b"%x\r\n%b\n\n\r\n" % (len(event) + 2, event))
