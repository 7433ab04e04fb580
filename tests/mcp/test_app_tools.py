"""`app.*` tools and `core.component.invoke`: from an MCP message through a real gateway to a sandbox."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.far_end import Answer, Sandbox, generic, http_result
from gateway.stage import Stage
from support.check_limits import limit_jobs
from support.mcp_office import Office
from support.private_redis import PrivateRedis
from support.waiting import eventually
from uhlp_core import store
from uhlp_core.settings import Settings
from uhlp_core.sockets import listen_tcp
from uhlp_core.tokens import MCP_AUDIENCE, Claims, TokenKey
from uhlp_mcp.server import serve

GREETER = {"componentId": "greeter"}
GREET = {
    "name": "greet",
    "title": "Greet",
    "description": "Says hello.",
    "component": "greeter",
    "inputSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    "outputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    "annotations": {"readOnlyHint": True, "openWorldHint": False},
    "timeoutSeconds": 5,
}
ANYTHING = {"name": "app.anything", "description": "Whatever.", "component": "greeter"}


class Building(Office):
    """An office with a gateway beside it, and one sandbox behind."""

    stage: Stage
    sandbox: Sandbox

    async def serve(self, *tools: dict[str, Any], deployment: str = "demo", **more: Any) -> None:
        await self.stage.publish([GREETER], self.sandbox.lanes, tools=tools, deployment=deployment, **more)

    async def names(self, instance: str) -> list[str]:
        listed = (await self.rpc(instance, "tools/list"))["result"]["tools"]
        return [tool["name"] for tool in listed if not tool["name"].startswith("core.")]


@pytest.fixture
async def building(folder: Path) -> AsyncIterator[Building]:
    server = PrivateRedis(folder)
    server.start()
    settings = Settings(home_dir=folder / "home", redis=f"unix://{server.path}")
    settings.home.create()
    await eventually(server.path.exists, "Redis listens")
    listener = listen_tcp("127.0.0.1", 0)
    building = Building(settings, store.connect(settings), server, "")
    building.stage = Stage(folder, server, settings, building.redis)
    building.sandbox = Sandbox(folder)
    await building.sandbox.start()
    await building.stage.start_gateway()
    stop = asyncio.Event()
    daemon = asyncio.create_task(serve(settings, stop, listener))
    try:
        await building.serve(GREET, ANYTHING)
        await building.add("demo", "a0")
        gateways = settings.home.gateways
        await eventually(lambda: bool(list(gateways.iterdir())), "the gateway's internal door is open")
        yield building
    finally:
        stop.set()
        await daemon
        await building.stage.stop_gateway()
        await building.sandbox.stop()
        await building.redis.aclose()
        server.kill()


async def test_the_app_s_tools_are_listed_beside_the_core_s(building: Building) -> None:
    listed = (await building.rpc("a0", "tools/list"))["result"]["tools"]
    tools = {tool["name"]: tool for tool in listed}
    assert tools["app.greet"] == {
        "name": "app.greet",
        "title": "Greet",
        "description": "Says hello.",
        "inputSchema": GREET["inputSchema"],
        "outputSchema": GREET["outputSchema"],
        "annotations": {
            "readOnlyHint": True,
            "destructiveHint": True,
            "idempotentHint": True,
            "openWorldHint": False,
        },
    }
    assert "outputSchema" not in tools["app.anything"]
    assert tools["app.anything"]["inputSchema"] == {"type": "object"}
    assert "core.component.invoke" in tools


@pytest.mark.parametrize("name", ["app.greet", "app__greet"])
async def test_a_call_runs_the_component_with_the_arguments(building: Building, name: str) -> None:
    building.sandbox.script = lambda _: generic({"text": "hello Ada"})
    assert await building.call("a0", name, name="Ada") == {"text": "hello Ada"}
    (request,) = building.sandbox.requests
    assert request["requestData"] == {"source": "internal", "internalDetails": {"input": {"name": "Ada"}}}
    context = request["context"]
    assert (context["componentId"], context["timeoutMs"], context["depth"]) == ("greeter", 5000, 1)


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (generic({"a": 1}), {"a": 1}),
        (generic([1, 2]), {"result": [1, 2]}),
        (generic(None), {"result": None}),
        (http_result(201, '{"a": 1}'), {"a": 1}),
        (http_result(200, "plain"), {"result": "plain"}),
    ],
)
async def test_what_a_component_returns_becomes_structured(
    building: Building, answer: Answer, content: Any
) -> None:
    building.sandbox.script = lambda _: answer
    assert await building.call("a0", "app.anything") == content


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            generic({"txt": "x"}),
            "INVALID_OUTPUT: the result of component greeter breaks the tool's outputSchema",
        ),
        (generic("text"), "INVALID_OUTPUT: "),
        (http_result(409, "taken"), "HTTP_409: the component answered 409: taken"),
        (
            (200, {"resultType": "error", "data": {"code": "NO", "message": "no", "details": {"a": 1}}}),
            'NO: no (details: {"a":1})',
        ),
        ((500, {"error": "HANDLER_EXCEPTION", "details": "x"}), "HANDLER_EXCEPTION: the handler raised"),
    ],
)
async def test_failures_are_results_with_a_code(building: Building, answer: Answer, text: str) -> None:
    building.sandbox.script = lambda _: answer
    assert (await building.refused("a0", "app.greet", name="Ada")).startswith(text)


async def test_arguments_are_checked_before_anything_runs(building: Building) -> None:
    for arguments in ({}, {"name": 5}):
        assert (await building.refused("a0", "app.greet", **arguments)).startswith("INVALID_ARGUMENTS: ")
    nested = b"[" * 900 + b"]" * 900
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"app.anything","arguments":'
    _, answer = await building.post("a0", call + b'{"a":' + nested + b"}}}")
    assert answer["result"]["content"][0]["text"].startswith("INVALID_ARGUMENTS: ")
    assert building.sandbox.requests == []


async def test_the_tools_are_those_of_the_revision_served(building: Building) -> None:
    assert await building.names("a0") == ["app.anything", "app.greet"]
    await building.serve({**GREET, "name": "welcome"}, commit="e" * 40)
    assert await building.names("a0") == ["app.welcome"]
    answer = await building.rpc("a0", "tools/call", {"name": "app.greet", "arguments": {"name": "Ada"}})
    assert answer["error"]["code"] == -32602


async def test_another_deployment_s_tools_and_components_do_not_exist(building: Building) -> None:
    async def answers() -> list[dict[str, Any]]:
        named = ("app.secret", "app.draft", "app__secret", "app.secret@other", "app.other.secret")
        given = [{"name": name, "arguments": {"name": "Ada"}} for name in named]
        return [(await building.rpc("a0", "tools/call", params))["error"] for params in given]

    before = await answers()
    await building.serve({**GREET, "name": "secret"}, deployment="other")
    await building.serve({**GREET, "name": "draft"}, deployment="demo@next")
    await building.add("other", "o0")
    await building.add("demo@next", "p0")
    assert await building.names("a0") == ["app.anything", "app.greet"]
    assert (await building.names("o0"), await building.names("p0")) == (["app.secret"], ["app.draft"])
    assert await answers() == before
    assert {answer["data"]["code"] for answer in before} == {"UNKNOWN_TOOL"}
    assert building.sandbox.requests == []


async def test_a_component_invokes_another_one(building: Building) -> None:
    found = await building.call("a0", "core.component.invoke", componentId="greeter", input=[1])
    assert found == {"resultType": "generic", "data": {"ok": True}, "scripted": False}
    building.sandbox.script = lambda _: http_result(201, "made")
    found = await building.call(
        "a0", "core.component.invoke", componentId="greeter", input=None, timeoutMs=9000
    )
    assert found["resultType"] == "httpResponse"
    assert [request["context"]["timeoutMs"] for request in building.sandbox.requests] == [30_000, 9000]


async def test_what_no_model_wrote_says_so_on_every_way(building: Building) -> None:
    scripted = {"resultType": "generic", "data": {"text": "hi"}, "metrics": {"llm": {"scripted": True}}}
    building.sandbox.script = lambda _: (200, scripted)
    told = await building.rpc("a0", "tools/call", {"name": "app.greet", "arguments": {"name": "Ada"}})
    assert (told["result"]["structuredContent"], told["result"]["_meta"]) == (
        {"text": "hi"},
        {"uhlp/scripted": True},
    )
    found = await building.call("a0", "core.component.invoke", componentId="greeter", input=None)
    assert found == {"resultType": "generic", "data": {"text": "hi"}, "scripted": True}
    building.sandbox.script = lambda _: (
        500,
        {"error": "LLM_REFUSED", "data": {"details": {"scripted": True}}},
    )
    told = await building.rpc("a0", "tools/call", {"name": "app.anything", "arguments": {}})
    assert told["result"]["_meta"] == {"uhlp/error": {"code": "LLM_REFUSED", "scripted": True}}


@pytest.mark.parametrize(
    "component", ["theirs", "other/theirs", "other:theirs", "../other/theirs", "theirs@other", '"', "\ud7ff"]
)
async def test_no_component_of_another_app_can_be_invoked(building: Building, component: str) -> None:
    await building.stage.publish([{"componentId": "theirs"}], building.sandbox.lanes, deployment="other")
    text = await building.refused("a0", "core.component.invoke", componentId=component, input=None)
    assert text == f"COMPONENT_NOT_FOUND: demo has no component {component!r}"
    for name in ("appId", "deployment", "depth", "user"):
        arguments = {"componentId": "theirs", "input": None, name: "other"}
        assert (await building.refused("a0", "core.component.invoke", **arguments)).startswith(
            "INVALID_ARGUMENTS: "
        )
    assert building.sandbox.requests == []


async def test_components_that_call_each_other_without_end_are_stopped(building: Building) -> None:
    key = TokenKey.of(building.settings.home)

    async def invoke(depth: int) -> Any:
        token = key.sign(Claims("demo", "demo", "python", "a0", "greeter", "ada", depth=depth), 60)
        arguments = {"componentId": "greeter", "input": None}
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "core.component.invoke", "arguments": arguments},
        }
        _, answer = await building.post("a0", message, headers={"Authorization": f"Bearer {token}"})
        return answer["result"]

    assert (await invoke(7))["isError"] is False
    (request,) = building.sandbox.requests
    claims = key.verify(request["context"]["mcp_token"], MCP_AUDIENCE)
    assert (claims.depth, claims.user, claims.component) == (8, "ada", "greeter")
    refused = await invoke(8)
    assert refused["isError"] is True
    assert refused["content"][0]["text"].startswith("INVOKE_TOO_DEEP: more than 8 components")


async def test_without_a_gateway_calls_fail_at_once_and_recover(building: Building) -> None:
    await building.call("a0", "app.anything")
    await building.stage.stop_gateway()
    assert (await building.refused("a0", "app.anything")).startswith("UNAVAILABLE: no gateway runs")
    await building.stage.start_gateway()

    async def answered() -> bool:
        params = {"name": "app.anything", "arguments": {}}
        return not (await building.rpc("a0", "tools/call", params))["result"]["isError"]

    await eventually(answered, "calls work again")


async def test_a_gateway_that_dies_under_a_call_is_told_and_the_call_is_not_repeated(
    building: Building, folder: Path
) -> None:
    await building.stage.stop_gateway()
    calls = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        await reader.readuntil(b"\r\n\r\n")
        calls += 1
        writer.transport.abort()

    async with await asyncio.start_unix_server(hang_up, building.settings.home.gateways / "dying.sock"):
        assert (await building.refused("a0", "app.anything")).startswith("GATEWAY_LOST: ")
    assert calls == 1


async def test_the_tools_known_last_stay_while_redis_is_away(building: Building) -> None:
    names = await building.names("a0")
    building.redis_server.kill()
    assert await building.names("a0") == names
    assert await building.call("a0", "app.anything") == {"ok": True}


def _branching(levels: int) -> dict[str, Any]:
    """A schema whose reading takes two to the power of `levels` steps."""
    defs: dict[str, Any] = {
        f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(levels)
    }
    return {"type": "object", "$ref": "#/$defs/d0", "$defs": {**defs, f"d{levels}": {"type": "object"}}}


@pytest.mark.parametrize(
    "schema",
    [{"type": "object", "properties": {"text": {"pattern": "^(a+)+$"}}}, _branching(40)],
    ids=["pattern", "references"],
)
@pytest.mark.parametrize("place", ["inputSchema", "outputSchema"])
async def test_a_schema_that_takes_for_ever_holds_up_nobody_else(
    building: Building, place: str, schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_jobs(monkeypatch, 4.0)
    evil = {"text": "a" * 60 + "!"}
    building.sandbox.script = lambda _: generic(evil)
    await building.serve({**ANYTHING, place: schema})
    await building.stage.publish([GREETER], building.sandbox.lanes, deployment="other")
    await building.add("other", "o0")
    call = asyncio.create_task(building.refused("a0", "app.anything", **evil))
    loop = asyncio.get_running_loop()
    slowest = 0.0
    while not call.done():
        started = loop.time()
        await building.call("o0", "core.state.getRuntimeValue", key="k")
        slowest = max(slowest, loop.time() - started)
    assert "took too long" in call.result()
    assert slowest < 3.0, "nobody waits for the whole check"
