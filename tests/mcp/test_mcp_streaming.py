"""Tools that tell parts of their result as they come, over a stream of events; and clients that hang up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from support.masking_guard import MaskingGuard
from uhlp_core.errors import Conflict
from uhlp_core.sockets import listen_tcp
from uhlp_mcp import http
from uhlp_mcp.http import Endpoint
from uhlp_mcp.sdk import SdkServer
from uhlp_mcp.tools import Caller, Emit, Guard, Tool, Toolbox

EVENTS = {"Accept": "application/json, text/event-stream"}


class Poem:
    """A tool whose steps the test decides."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def whole(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return {"poem": given.get("text", "whole")}

    async def told(self, caller: Caller, given: dict[str, Any], emit: Emit) -> dict[str, Any]:
        if given.get("fails"):
            raise Conflict("no muse")
        if not given.get("silent"):
            await emit("roses\nare ")
            await emit("red", scripted=given.get("scripted", False))
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {"poem": "roses\nare red"}


@asynccontextmanager
async def serving(poem: Poem, guard: Guard | None = None) -> AsyncIterator[str]:
    schema = {"type": "object"}
    tool = Tool("app.poem", "A poem.", schema, schema, poem.whole, streaming=poem.told)
    toolbox = Toolbox.of([tool], guard=guard)
    endpoint = Endpoint(toolbox, SdkServer(toolbox))

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await endpoint.handle(request, Caller("alpha", "alpha"))

    listener = listen_tcp("127.0.0.1", 0)
    connections = web.Server(handle, access_log=None, handler_cancellation=True)
    server = await asyncio.get_running_loop().create_server(connections, sock=listener)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    finally:
        server.close()
        await connections.shutdown(1.0)


def call(token: object = "t", **arguments: Any) -> bytes:
    meta = {} if token is None else {"_meta": {"progressToken": token}}
    params = {"name": "app.poem", "arguments": arguments, **meta}
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})


@asynccontextmanager
async def posted(url: str, body: bytes, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"Content-Type": "application/json"} | headers
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        assert response.status == 200
        yield response


async def event(response: aiohttp.ClientResponse) -> Any:
    async with asyncio.timeout(10):
        assert await response.content.readline() == b"event: message\r\n"
        line = await response.content.readline()
        assert await response.content.readline() == b"\r\n"
    return orjson.loads(line.removeprefix(b"data: "))


async def test_parts_come_at_once_and_the_result_last() -> None:
    poem = Poem()
    async with serving(poem) as url, posted(url, call(7), **EVENTS) as response:
        assert response.content_type == "text/event-stream"
        for number, text in ((1, "roses\nare "), (2, "red")):
            told = await event(response)
            assert told["method"] == "notifications/progress"
            assert told["params"] == {"progressToken": 7, "progress": number, "message": text}
        poem.go_on.set()
        result = (await event(response))["result"]
        assert result["structuredContent"] == {"poem": "roses\nare red"}
        assert await response.content.read() == b""


async def test_a_part_that_no_model_wrote_says_so() -> None:
    async with serving(Poem()) as url, posted(url, call(scripted=True), **EVENTS) as response:
        metas = [(await event(response))["params"].get("_meta") for _ in range(2)]
        assert metas == [None, {"uhlp/scripted": True}]


@pytest.mark.parametrize(
    ("token", "headers"), [(None, EVENTS), (True, EVENTS), ("t", {"Accept": "application/json"})]
)
async def test_without_a_token_or_a_stream_the_result_comes_whole(
    token: object, headers: dict[str, str]
) -> None:
    async with serving(Poem()) as url, posted(url, call(token), **headers) as response:
        assert (await response.json())["result"]["structuredContent"] == {"poem": "whole"}


async def test_what_fails_before_its_first_part_is_plain_json() -> None:
    async with serving(Poem()) as url, posted(url, call(fails=True), **EVENTS) as response:
        assert response.content_type == "application/json"
        result = (await response.json())["result"]
        assert (result["isError"], result["content"][0]["text"]) == (True, "CONFLICT: no muse")
        assert result["_meta"] == {"uhlp/error": {"code": "CONFLICT"}}


async def test_a_silent_stream_is_kept_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PING_SECONDS", 0.01)
    poem = Poem()
    async with serving(poem) as url, posted(url, call(silent=True), **EVENTS) as response:
        assert await response.content.readline() == b": ping\r\n"
        poem.go_on.set()
        content = await response.content.read()
        assert content.endswith(b"\r\n\r\n")
        assert b'"roses\\nare red"' in content


@pytest.mark.parametrize("silent", [False, True])
async def test_a_client_that_hangs_up_cancels_its_call(silent: bool) -> None:
    poem = Poem()
    async with serving(poem) as url:
        async with aiohttp.ClientSession() as session:
            waiting = asyncio.create_task(
                session.post(
                    url, data=call(silent=silent), headers={"Content-Type": "application/json", **EVENTS}
                )
            )
            if silent:
                async with asyncio.timeout(10):
                    await poem.begun.wait()
                waiting.cancel()
            else:
                (await waiting).close()
        async with asyncio.timeout(10):
            await poem.cancelled.wait()


async def test_nothing_is_told_early_of_a_result_that_a_guard_looks_through() -> None:
    body = call(text="whole and hidden")
    async with serving(Poem(), MaskingGuard()) as url, posted(url, body, **EVENTS) as response:
        assert response.content_type == "application/json"
        assert (await response.json())["result"]["structuredContent"] == {"poem": "whole and ***"}
