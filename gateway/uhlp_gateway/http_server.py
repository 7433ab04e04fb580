"""The gateway's HTTP/1.1 server: connections, framing, limits and time-outs around one handler.

Parsing is httptools' (llhttp, strict). This file adds what a public server needs and nothing of what a
request means: one request at a time per connection in the order they came, bodies on demand within a limit,
responses in one write, and a sweep that ends connections which only take up room.

It exists because the gateway's work per request is small: a general server would cost more than all of it
(docs/decisions/0002-own-http-server.md).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import httptools

from uhlp_gateway import http_wire
from uhlp_gateway.http_wire import Pieces, Response

MAX_TARGET_BYTES = 16 * 1024
"""Of the request line; browsers and proxies stop at about half of it."""

MAX_HEAD_BYTES = 64 * 1024
"""Of all header names and values together."""

MAX_HEADERS = 128
MAX_PIPELINED = 16
"""Requests that wait behind the one under way before the connection is no longer read."""

HIGH_WATER = 256 * 1024
"""Bytes of a body that are held before anybody asks for it."""

HEAD_SECONDS = 20.0
"""For a request's head to arrive once it began."""

KEEPALIVE_SECONDS = 75.0
BODY_SECONDS = 60.0
"""For the next piece of a body to arrive."""

WRITE_SECONDS = 60.0
"""For a client to take a response before the next one, or the end."""

LINGER_SECONDS = 2.0
"""How long the rest of a refused body is read, so that the client gets to see the refusal."""

SWEEP_SECONDS = 1.0
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyTooLarge(Exception):
    """The body exceeds the limit it was asked for with."""


class BodyBroken(Exception):
    """The body is not framed as HTTP/1.1 says, or its sender hung up."""


class BodyStalled(Exception):
    """The body stopped arriving."""


class Request:
    """A request whose head has arrived."""

    __slots__ = (
        "_chunks",
        "_connection",
        "_size",
        "_unwanted",
        "_waiter",
        "broken",
        "complete",
        "headers",
        "keep_alive",
        "method",
        "raw_headers",
        "takes_chunks",
        "target",
    )

    def __init__(
        self,
        connection: "HttpConnection",
        method: str,
        target: str,
        raw_headers: list[tuple[bytes, bytes]],
        headers: dict[bytes, bytes],
        keep_alive: bool,
        takes_chunks: bool,
    ) -> None:
        self.method = method
        self.target = target
        """As it was sent; bytes that are not UTF-8 are lone surrogates."""
        self.raw_headers = raw_headers
        """Names and values as they were sent, in order."""
        self.headers = headers
        """The first value by lower-case name."""
        self.keep_alive = keep_alive
        self.takes_chunks = takes_chunks
        """Whether a body may come in chunks: since HTTP/1.1."""
        self.complete = False
        self.broken = False
        self._connection = connection
        self._chunks: list[bytes] = []
        self._size = 0
        self._unwanted = False
        self._waiter: asyncio.Future[None] | None = None

    def header(self, name: bytes) -> str | None:
        """The first value of a header, by lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("utf-8", "surrogateescape")

    @property
    def has_body(self) -> bool:
        return bool(self._chunks) or not self.complete

    async def read_body(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge, BodyBroken or BodyStalled."""
        declared = self.headers.get(b"content-length")
        if declared is not None and int(declared) > limit:
            raise BodyTooLarge
        if not self.complete:
            self._connection.body_is_wanted(b"expect" in self.headers and not self._size)
        try:
            while not self.complete and self._size <= limit:
                await self._next_piece(BODY_SECONDS)
        except TimeoutError:
            raise BodyStalled from None
        if self._size > limit:
            raise BodyTooLarge
        chunks, self._chunks = self._chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def skip_body(self, seconds: float) -> bool:
        """Let the rest of a body arrive that nobody wants; False if it takes longer than that."""
        self._unwanted = True
        self._chunks.clear()
        try:
            async with asyncio.timeout(seconds):
                while not self.complete:
                    await self._next_piece(seconds)
        except (TimeoutError, BodyBroken):
            return False
        return True

    async def _next_piece(self, seconds: float) -> None:
        """Wait until more of the body is there, or its end. Raises BodyBroken or TimeoutError."""
        if self.broken:
            raise BodyBroken
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._waiter
        finally:
            self._waiter = None
        if self.broken:
            raise BodyBroken

    def feed(self, chunk: bytes) -> int:
        """Take a piece of the body; returns how much is held."""
        if self._unwanted:
            return 0
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._wake()
        return self._size

    def finish(self, *, broken: bool = False) -> None:
        """Nothing more of the body comes."""
        self.broken = broken
        self.complete = not broken
        self._wake()

    @property
    def is_read(self) -> bool:
        """Whether somebody waits for the body at this moment."""
        return self._waiter is not None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


Handler = Callable[[Request], Awaitable[Response]]
"""Answers a request; raises nothing but CancelledError, when the client has gone."""

Refuse = Callable[[int, str], Response]
"""Makes the response to what is no HTTP request: status, and what is wrong with it."""


class HttpServer:
    """All connections of one listener."""

    def __init__(self, handler: Handler, refuse: Refuse) -> None:
        self.handler = handler
        self.refuse = refuse
        self.connections: set[HttpConnection] = set()
        self.closing = False
        self._empty: asyncio.Event | None = None
        """Set by the last connection's end, once somebody waits for that."""

    def __call__(self) -> "HttpConnection":
        """A protocol for a new connection."""
        return HttpConnection(self)

    def forget(self, connection: "HttpConnection") -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if self._empty is not None and not self.connections:
            self._empty.set()

    async def sweep(self) -> None:
        """End connections that only take up room, for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.connections):
                connection.end_if_overdue(now)

    async def shutdown(self, seconds: float) -> None:
        """Close what is idle now and the rest after its request; cut what takes longer than `seconds`."""
        self.closing = True
        for connection in tuple(self.connections):
            connection.close_when_idle()
        if self.connections:
            self._empty = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)
        for connection in tuple(self.connections):
            connection.abort()


class HttpConnection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_drained",
        "_headers",
        "_loop",
        "_parser",
        "_queue",
        "_raw_headers",
        "_reading",
        "_receiving",
        "_refusal",
        "_server",
        "_size",
        "_task",
        "_transport",
        "_url",
        "overdue_at",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[Request] = deque()
        self._receiving: Request | None = None
        """The request whose body is arriving."""
        self._refusal: Response | None = None
        """What is sent after the requests before it, and then the end."""
        self._reading = True
        self._drained: asyncio.Event | None = None
        """Set when the client has taken enough of what was written; None while it keeps up."""
        self._url = b""
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self._headers: dict[bytes, bytes] = {}
        self._size = 0
        self.overdue_at = self._loop.time() + HEAD_SECONDS
        """Loop time after which the connection is ended if no request is under way."""

    # -- asyncio.Protocol ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.forget(self)
        if self._receiving is not None:
            self._receiving.finish(broken=True)
        if self._drained is not None:
            self._drained.set()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # It asks for another protocol. The request itself is whole; what follows it is not HTTP.
            if self._queue:
                self._queue[-1].keep_alive = False
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._break_off(cause if isinstance(cause, _TooMuch) else _TooMuch(400, "this is not HTTP/1.1"))
        if self._task is None and (self._queue or self._refusal is not None):
            self._task = self._loop.create_task(self._work())
        if len(self._queue) > MAX_PIPELINED:
            self._pause()

    def pause_writing(self) -> None:
        self._drained = asyncio.Event()

    def resume_writing(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    # -- callbacks of the parser -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._raw_headers = []
        self._headers = {}
        self._size = 0
        if self._task is None:
            self.overdue_at = self._loop.time() + HEAD_SECONDS

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > MAX_TARGET_BYTES:
            raise _TooMuch(414, f"the request target is longer than {MAX_TARGET_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if self._size > MAX_HEAD_BYTES or len(self._raw_headers) >= MAX_HEADERS:
            raise _TooMuch(431, f"more than {MAX_HEADERS} headers or {MAX_HEAD_BYTES} bytes of them")
        self._raw_headers.append((name, value))
        lower = name.lower()
        if lower not in self._headers:
            self._headers[lower] = value
        elif lower == b"host":
            raise _TooMuch(400, "there is more than one Host header")

    def on_headers_complete(self) -> None:
        version = self._parser.get_http_version()
        if version == "1.1" and b"host" not in self._headers:
            raise _TooMuch(400, "there is no Host header")
        request = Request(
            self,
            self._parser.get_method().decode("latin-1"),
            self._url.decode("utf-8", "surrogateescape"),
            self._raw_headers,
            self._headers,
            self._parser.should_keep_alive() and version == "1.1",
            version == "1.1",
        )
        self._receiving = request
        self._queue.append(request)

    def on_body(self, body: bytes) -> None:
        request = self._receiving
        if request is None:
            return  # Refused, and only read to its end.
        if request.feed(body) > HIGH_WATER and not request.is_read:
            self._pause()

    def on_message_complete(self) -> None:
        if self._receiving is not None:
            self._receiving.finish()
            self._receiving = None

    # -- the requests, one after the other -------------------------------------------------------------

    async def _work(self) -> None:
        """Answer what has come, in order."""
        try:
            while self._queue and self._transport is not None:
                request = self._queue[0]
                response = await self._server.handler(request)
                self._queue.popleft()
                keep = request.keep_alive and not response.close and not self._server.closing
                if response.pieces is None:
                    self._send(response, head=request.method == "HEAD", keep=keep)
                else:
                    keep = await self._stream(request, response, response.pieces, keep=keep)
                if not request.complete:
                    self._resume()
                    keep = await request.skip_body(LINGER_SECONDS) and keep
                if self._drained is not None:
                    await self._until_drained()
                if not keep:
                    self._close()
                    return
                if not self._reading:
                    self._resume()
            if self._refusal is not None:
                self._send(self._refusal, head=False, keep=False)
                self._close()
        except Exception:
            self.abort()  # A handler raises nothing; whatever this is, the client must not wait for it.
            raise
        finally:
            self._task = None
            self.overdue_at = self._loop.time() + KEEPALIVE_SECONDS

    def _send(self, response: Response, *, head: bool, keep: bool) -> None:
        if self._transport is None:
            return
        body = response.body
        framing = f"Content-Length: {len(body)}\r\n"
        if response.status in http_wire.WITHOUT_BODY:
            body, framing = b"", ""
        data = http_wire.head(response.status, response.headers, framing, keep=keep)
        self._transport.write(data if head or not body else data + body)

    async def _stream(self, request: Request, response: Response, pieces: Pieces, *, keep: bool) -> bool:
        """Send a body piece by piece, none before the client has taken those before it.

        Whether the connection can be kept: without chunks its end is the end of the body.
        """
        framing = "Transfer-Encoding: chunked\r\n" if request.takes_chunks else ""
        keep = keep and request.takes_chunks
        try:
            self._write(http_wire.head(response.status, response.headers, framing, keep=keep))
            if request.method != "HEAD":
                async for piece in pieces:
                    self._write(http_wire.chunk(piece) if request.takes_chunks else piece)
                    if self._drained is not None:
                        await self._until_drained()
                if request.takes_chunks:
                    self._write(http_wire.LAST_CHUNK)
        finally:
            await pieces.aclose()
        return keep

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def _until_drained(self) -> None:
        """Wait for a client that reads slowly; one that does not read at all is cut off."""
        assert self._drained is not None
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._drained.wait()
        except TimeoutError:
            self.abort()

    def body_is_wanted(self, expected: bool) -> None:
        """The handler is about to read the body under way; `expected` if the client waits to be told so."""
        if expected and self._transport is not None:
            self._transport.write(CONTINUE)
        self._resume()

    # -- ends ------------------------------------------------------------------------------------------

    def _break_off(self, problem: "_TooMuch") -> None:
        """What arrives cannot be read on: the body under way is broken, or a refusal follows the queue."""
        if self._receiving is not None:
            self._receiving.keep_alive = False
            self._receiving.finish(broken=True)
            self._receiving = None
        self._refusal = self._server.refuse(problem.status, problem.detail)

    def end_if_overdue(self, now: float) -> None:
        if self._task is None and now > self.overdue_at:
            self._close()

    def close_when_idle(self) -> None:
        if self._task is None:
            self._close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _pause(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _resume(self) -> None:
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()


class _TooMuch(Exception):
    """A limit of the head was passed; raised in a parser callback, it ends the parsing."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
