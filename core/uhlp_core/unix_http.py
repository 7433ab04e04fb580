"""One keep-alive HTTP/1.1 connection to a Unix socket: of a sandbox instance, or of another daemon.

Deliberately not a general HTTP client: one request at a time, whole bodies, no redirects, no headers of the
answer but those that frame it. What comes back is written by untrusted code, so it is bounded and anything
odd ends the connection. A daemon's is read with the same care.
"""

import asyncio
from typing import NamedTuple, cast

import httptools

MAX_REPLY_BYTES = 64 * 1024 * 1024
"""Largest answer that is read. Pools limit their output to less; a sandbox that ignores that ends here."""


class ConnectionLost(Exception):
    """The far end hung up, or answered something that is not HTTP, before the answer was complete."""


class DeadlinePassed(Exception):
    """The answer did not come in time; the connection is closed."""


class Reply(NamedTuple):
    """An answer, unread."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """Sends requests one after the other. `usable` says whether another one may follow."""

    __slots__ = ("_chunks", "_loop", "_parser", "_size", "_transport", "_waiter", "deadline", "usable")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self.usable = True
        self.deadline = 0.0
        """Loop time after which `expire` ends the request under way."""

    async def request(self, message: bytes) -> Reply:
        """Send a whole HTTP message and return the answer.

        Raises ConnectionLost or DeadlinePassed; closes the connection when cancelled, because the answer to
        come belongs to nobody.
        """
        if self._transport is None or not self.usable:
            raise ConnectionLost
        waiter: asyncio.Future[Reply] = self._loop.create_future()
        self._waiter = waiter
        self._transport.write(message)
        try:
            return await waiter
        except asyncio.CancelledError:
            self.close()
            raise

    def expire(self, now: float) -> None:
        """End the request under way if its deadline has passed."""
        if self._waiter is not None and not self._waiter.done() and now >= self.deadline:
            self._waiter.set_exception(DeadlinePassed())
            self.close()

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            self.close()  # nobody asked: whatever follows could be taken for another request's answer
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._transport = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionLost())

    # Callbacks of the parser

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_REPLY_BYTES:
            self.close()
            return
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.close()
            return
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._size = 0
        if not self._parser.should_keep_alive():
            self.usable = False
        waiter.set_result(Reply(self._parser.get_status_code(), body))


async def connect(path: str) -> Connection:
    """Open a connection to a Unix socket; raises OSError."""
    _, connection = await asyncio.get_running_loop().create_unix_connection(Connection, path)
    return connection


def message(method: str, target: str, body: bytes, *, headers: str = "") -> bytes:
    """A request in wire form. `headers` are whole lines, each ended by CR LF."""
    return (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Accept: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    ).encode("latin-1") + body
