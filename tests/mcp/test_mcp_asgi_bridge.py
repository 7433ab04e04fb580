"""An ASGI application inside aiohttp: made at the first request, streamed, told of clients that hang up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from uhlp_core.sockets import listen_tcp
from uhlp_mcp.asgi import AsgiApp, AsgiBridge


@asynccontextmanager
async def serving(bridge: AsgiBridge) -> AsyncIterator[str]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await bridge.handle(request, await request.read(), {"who": "test"})

    listener = listen_tcp("127.0.0.1", 0)
    connections = web.Server(handle, access_log=None, handler_cancellation=True)
    server = await asyncio.get_running_loop().create_server(connections, sock=listener)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a%20b?c=d"
    finally:
        server.close()
        await connections.shutdown(1.0)
        await bridge.close()


class Stage:
    """An application, and what became of it."""

    def __init__(self, app: AsgiApp, failures: int = 0) -> None:
        self.app = app
        self.failures = failures
        self.life: list[str] = []

    def make(self) -> AbstractAsyncContextManager[AsgiApp]:
        self.life.append("made")
        if len(self.life) <= self.failures:
            raise ImportError("not this time")

        @asynccontextmanager
        async def life() -> AsyncIterator[AsgiApp]:
            yield self.app
            self.life.append("ended")

        return life()


async def test_request_and_answer_pass_unchanged() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope, message=await receive())
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-one", b"1")]})
        await send({"type": "http.response.body", "body": b"made"})

    stage = Stage(app)
    async with serving(AsgiBridge(stage.make)) as url, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.put(url, data=b"body", headers={"X-Two": "2"}) as response:
                assert (response.status, response.headers["X-One"], await response.read()) == (
                    201,
                    "1",
                    b"made",
                )
    assert stage.life == ["made", "ended"]
    assert (seen["method"], seen["path"], seen["raw_path"]) == ("PUT", "/a b", b"/a%20b")
    assert (seen["query_string"], seen["state"]) == (b"c=d", {"who": "test"})
    assert (b"x-two", b"2") in seen["headers"]
    assert seen["message"] == {"type": "http.request", "body": b"body", "more_body": False}


async def test_an_application_that_could_not_be_made_is_made_anew() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    stage = Stage(app, failures=1)
    async with serving(AsgiBridge(stage.make)) as url, aiohttp.ClientSession() as session:
        statuses = []
        for _ in range(2):
            async with session.get(url) as response:
                statuses.append(response.status)
    assert statuses == [500, 204]


async def test_a_stream_is_sent_as_it_comes_and_its_loss_noticed() -> None:
    lost = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await receive()
        with pytest.raises(asyncio.CancelledError):
            await receive()
        lost.set()
        raise asyncio.CancelledError

    async with serving(AsgiBridge(Stage(app).make)) as url:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert await response.content.readexactly(5) == b"first"
            response.close()
        async with asyncio.timeout(10):
            await lost.wait()
