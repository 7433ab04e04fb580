"""An answer that comes in pieces: a sandbox's server-sent events on their way to the client.

Each has a connection of its own to its lane, so that the pooled ones stay simple. A piece is read when the
client has taken the one before: a slow client slows its own LLM down, and nobody else.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
import orjson

from uhlp_core.tokens import TokenCache
from uhlp_core.unix_http import MAX_REPLY_BYTES, ConnectionLost, Reply
from uhlp_gateway.execute import (
    BUSY,
    TIMEOUT_GRACE_SECONDS,
    Job,
    cancel_in_background,
    execute_message,
    pool_busy,
)
from uhlp_gateway.http_wire import Response
from uhlp_gateway.lanes import Lane, Pool, PoolBusy
from uhlp_gateway.problems import REQUEST_ID_HEADER, SERVER, Problem
from uhlp_gateway.respond import SCRIPTED, BadResult, streamed_result
from uhlp_gateway.schemas import SchemaCheck
from uhlp_gateway.table import Component

EVENTS = "text/event-stream"
READ_BYTES = 65536
_HEADERS = (("Content-Type", EVENTS), ("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
"""The last one tells a proxy in front of us to pass on each event as it comes."""


def takes_events(accept: str | None) -> bool:
    """Whether a client that sent this Accept header can read server-sent events. None: it takes anything."""
    kinds = {one.partition(";")[0].strip().lower() for one in (accept or "*/*").split(",")}
    return not kinds.isdisjoint((EVENTS, "text/*", "*/*"))


class EventStream:
    """The events of one request that has begun to answer. Whoever holds it must call `aclose`."""

    def __init__(
        self, sandbox: "_Sandbox", pool: Pool, lane: Lane, component: Component, request_id: str
    ) -> None:
        self._sandbox = sandbox
        self._pool = pool
        self._lane = lane
        self._schema: SchemaCheck | None = component.response_schema
        self._request_id = request_id
        self._closed = False
        self._answered = False
        self.on_end: Callable[[], None] = lambda: None
        """Called once, when the stream is closed."""
        self.status = 0
        """How the request ended, as an HTTP status; 0 until it has."""
        self.size = 0
        """Bytes of the events so far."""
        self.detail = ""
        """What went wrong, for the app's log only."""

    def response(self) -> Response:
        """The response whose body it is."""
        headers = [*_HEADERS, ("Server", SERVER), (REQUEST_ID_HEADER, self._request_id)]
        if self._sandbox.is_scripted:
            headers.append(SCRIPTED)
        response = Response(200, headers)
        response.pieces = self
        return response

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> bytes:
        """The next event. Raises nothing but CancelledError and, after the last one, StopAsyncIteration."""
        if self.status:
            raise StopAsyncIteration
        event = await self._next()
        self.size += len(event)
        return event

    async def aclose(self) -> None:
        """Let the lane go; a request that has not ended is cancelled."""
        if self._closed:
            return
        self._closed = True
        self._sandbox.close()
        if not self._answered:
            cancel_in_background(self._lane, self._request_id)
        self._pool.release(self._lane)
        self.on_end()

    async def _next(self) -> bytes:
        try:
            event = await self._sandbox.event()
            if not event.startswith(b"data: "):
                self._answered = True
                event = await self._last(event)
                self.status = 200
            return event
        except TimeoutError:
            problem = Problem(504, "HANDLER_TIMEOUT", "the handler did not answer in time")
        except ConnectionLost:
            problem = Problem(502, "SANDBOX_LOST", "the sandbox ended before it had answered")
        except BadResult as error:
            self.detail = str(error)
            problem = error.problem()
        except Problem as error:
            problem = error
        self.status = problem.status
        return _named("error", problem.document(self._request_id, ""))

    async def _last(self, event: bytes) -> bytes:
        """What the client is told of the event that ends the stream. Raises Problem, BadResult."""
        kind, _, data = event.partition(b"\ndata: ")
        reply = Reply(200 if kind == b"event: result" else 500, data)
        return _named("result", await streamed_result(reply, self._schema))


async def open_stream(pool: Pool, component: Component, tokens: TokenCache, job: Job) -> Reply | EventStream:
    """Send a job whose answer may stream: the stream, or a whole answer where it ended before it spoke.

    Raises Problem.
    """
    give_up = pool.loop.time() + pool.limits.queue_timeout
    while True:
        try:
            lane = pool.take() or await pool.wait()
        except PoolBusy:
            raise pool_busy() from None
        message = execute_message(pool, component.streaming(), tokens, lane, job)
        sandbox = _Sandbox(pool.loop.time() + component.timeout + TIMEOUT_GRACE_SECONDS)
        stream = None
        try:
            await sandbox.send(lane.socket, message)
            if sandbox.is_stream:
                stream = EventStream(sandbox, pool, lane, component, job.request_id)
                return stream
            reply = await sandbox.whole()
            if reply.status not in BUSY:
                return reply
            pool.set_aside(lane)
        except TimeoutError:
            raise Problem(504, "HANDLER_TIMEOUT", "the handler did not answer in time") from None
        except OSError:  # Nobody listens, so nothing was sent.
            pool.set_aside(lane)
        except ConnectionLost:
            raise Problem(
                502, "SANDBOX_LOST", "the sandbox ended before it had answered; whether it acted is unknown"
            ) from None
        finally:
            if stream is None:
                if sandbox.sent and not sandbox.complete:
                    cancel_in_background(lane, job.request_id)
                sandbox.close()
                pool.release(lane)
        if pool.loop.time() >= give_up:
            raise pool_busy()


class _Sandbox:
    """One request to a lane and its answer as it arrives, all of it by `deadline` (loop time)."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._parser = httptools.HttpResponseParser(self)
        self._writer: asyncio.StreamWriter | None = None
        self._buffer = b""
        self._has_head = False
        self.is_stream = False
        self.is_scripted = False
        """Whether the head of the stream says that no LLM writes it."""
        self.sent = False
        self.complete = False

    async def send(self, path: str, message: bytes) -> None:
        """Send the request and wait for the answer's head.

        Raises OSError if nobody listens, ConnectionLost, TimeoutError.
        """
        self._reader, self._writer = await asyncio.open_unix_connection(path, limit=READ_BYTES)
        self._writer.write(message)
        self.sent = True
        while not self._has_head:
            await self._receive()

    async def whole(self) -> Reply:
        """The whole answer. Raises ConnectionLost, TimeoutError."""
        while not self.complete:
            await self._receive()
        return Reply(self._parser.get_status_code(), self._buffer)

    async def event(self) -> bytes:
        """The next event with the empty line that ends it. Raises ConnectionLost, TimeoutError."""
        while (end := self._buffer.find(b"\n\n")) < 0:
            if self.complete:
                raise ConnectionLost
            await self._receive()
        event, self._buffer = self._buffer[: end + 2], self._buffer[end + 2 :]
        return event

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def _receive(self) -> None:
        try:
            async with asyncio.timeout_at(self._deadline):
                data = await self._reader.read(READ_BYTES)
            if not data:
                raise ConnectionLost
            self._parser.feed_data(data)
        except (ConnectionError, httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise ConnectionLost from None
        if len(self._buffer) > MAX_REPLY_BYTES:
            raise ConnectionLost

    # Callbacks of the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.is_stream = value.startswith(EVENTS.encode())
        elif name.lower() == SCRIPTED[0].lower().encode():
            self.is_scripted = value == SCRIPTED[1].encode()

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self._buffer += body

    def on_message_complete(self) -> None:
        self.complete = True


def _named(name: str, document: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(document))
