"""Serves an ASGI application inside an aiohttp server. Knows nothing of the Model Context Protocol.

The application is made at the first request: what nobody needs costs neither memory nor time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiohttp import web

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

START_SECONDS = 30.0
"""For making the application, imports included, on a busy machine."""

_log = logging.getLogger(__name__)


class AsgiBridge:
    """One application and its life: a context manager is entered before the first request."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[AsgiApp]]) -> None:
        """`make` may be slow (it runs in a thread); what it returns is entered and left in one task."""
        self._make = make
        self._app: asyncio.Future[AsgiApp] | None = None
        self._life: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def handle(
        self, request: web.BaseRequest, body: bytes, state: dict[str, Any]
    ) -> web.StreamResponse:
        """Answer a request whose body has been read; `state` becomes the scope's.

        Cancelling this is how the application learns that the client has hung up.
        """
        answer = _Answer(request)
        app = await self._started()
        await app(_scope(request, state), _Receive(body), answer.send)
        return await answer.finished()

    async def close(self) -> None:
        """End the application, if it was ever made."""
        self._closing.set()
        if self._life is not None:
            await self._life

    async def _started(self) -> AsgiApp:
        if self._app is None:
            self._app = asyncio.get_running_loop().create_future()
            self._life = asyncio.create_task(self._live(self._app))
        # Shielded: a client that does not wait takes nothing from the others.
        return await asyncio.wait_for(asyncio.shield(self._app), START_SECONDS)

    async def _live(self, started: "asyncio.Future[AsgiApp]") -> None:
        try:
            async with await asyncio.to_thread(self._make) as app:
                started.set_result(app)
                await self._closing.wait()
        except Exception as error:
            if started.done():
                _log.exception("the application has ended")
            else:
                started.set_exception(error)
        finally:
            self._app = None  # The next request tries anew.


class _Receive:
    """The application's `receive`: the body, then nothing until it is cancelled."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            await asyncio.get_running_loop().create_future()
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
    """The application's `send`: a whole body becomes one response, several parts a stream."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None
        self._status = 500
        self._headers: list[tuple[str, str]] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in message.get("headers", ())
                if name.lower() not in (b"content-length", b"connection")
            ]
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._response is None:
            if not more:
                self._response = web.Response(status=self._status, body=body, headers=self._headers)
                return
            self._response = web.StreamResponse(status=self._status, headers=self._headers)
            await self._response.prepare(self._request)
        if body:
            await self._response.write(body)
        if not more:
            await self._response.write_eof()

    async def finished(self) -> web.StreamResponse:
        if self._response is None:  # an application that ended without an answer
            return web.Response(status=self._status)
        return self._response


def _scope(request: web.BaseRequest, state: dict[str, Any]) -> Message:
    raw_path, _, query = request.raw_path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": raw_path.encode("utf-8", "surrogateescape"),
        "query_string": query.encode("utf-8", "surrogateescape"),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": None,
        "server": None,
        "state": state,
    }
