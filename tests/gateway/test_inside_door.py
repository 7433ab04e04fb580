"""Calls of components from inside, through a gateway's own socket."""

import asyncio
import os
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.far_end import Answer, Sandbox, generic, http_result
from gateway.stage import Stage, route
from support.check_limits import limit_jobs
from support.waiting import eventually
from uhlp_core import keys
from uhlp_core.unix_http import Connection, connect, message

HELPER = {"componentId": "helper"}
"""A component without a route."""


class Door:
    """The client that the MCP daemon is."""

    def __init__(self, path: Path, connection: Connection) -> None:
        self.path = path
        self.connection = connection

    async def invoke(self, component: str = "helper", given: Any = None, **more: Any) -> tuple[int, Any]:
        call = {"deployment": "demo", "componentId": component, "input": given, "depth": 1, **more}
        return await self.post(orjson.dumps(call))

    async def post(self, body: bytes, target: str = "/invoke") -> tuple[int, Any]:
        if not self.connection.usable:
            self.connection = await connect(str(self.path))
        reply = await self.connection.request(message("POST", target, body))
        return reply.status, orjson.loads(reply.body)


async def the_socket(stage: Stage) -> Path:
    def sockets() -> list[Path]:
        return list(stage.settings.home.gateways.glob("*.sock"))

    await eventually(lambda: len(sockets()) == 1, "the gateway has its door open")
    return sockets()[0]


@pytest.fixture
async def door(stage: Stage) -> AsyncIterator[Door]:
    path = await the_socket(stage)
    door = Door(path, await connect(str(path)))
    yield door
    door.connection.close()


async def test_a_component_without_a_route_gets_the_input_and_a_context(
    stage: Stage, sandbox: Sandbox, door: Door
) -> None:
    await stage.publish([HELPER], sandbox.lanes)
    status, answer = await door.invoke(
        given={"a": [1, None]}, user="ada", depth=3, requestId="parent-1", timeoutMs=1234
    )
    assert (status, answer) == (200, {"resultType": "generic", "data": {"ok": True}})
    (request,) = sandbox.requests
    assert request["requestData"] == {"source": "internal", "internalDetails": {"input": {"a": [1, None]}}}
    assert request["requestId"].startswith("parent-1.")
    context = request["context"]
    assert (context["appId"], context["componentId"]) == ("demo", "helper")
    assert (context["depth"], context["timeoutMs"]) == (3, 1234)
    assert context["userInfo"] == {"id": "ada", "isAuthenticated": True}
    assert context["mcp_endpoint"] == f"unix:{sandbox.folder}/mcp.sock"


async def test_a_call_is_logged_and_counted_like_a_request(
    stage: Stage, sandbox: Sandbox, door: Door
) -> None:
    await stage.publish([HELPER], sandbox.lanes)
    await door.invoke(requestId="r-1")
    log = stage.settings.home.app_log("demo")
    await eventually(log.exists, "the call is logged")
    line = orjson.loads(log.read_bytes())
    assert (line["method"], line["component"], line["status"]) == ("INVOKE", "helper", 200)
    assert line["requestId"] == sandbox.requests[0]["requestId"]

    async def counted() -> bool:
        metrics = (await stage.ask("GET", "/metrics", host="localhost")).body
        return b'uhlp_http_requests_total{app="demo",code="200",component="helper"} ' in metrics

    await eventually(counted, "the call is counted")


async def test_a_timeout_is_never_longer_than_the_pool_s(stage: Stage, sandbox: Sandbox, door: Door) -> None:
    await stage.publish([HELPER], sandbox.lanes, pool={"timeoutSeconds": 2})
    await door.invoke(timeoutMs=900_000)
    assert sandbox.requests[0]["context"]["timeoutMs"] == 2000


@pytest.mark.parametrize(
    ("answer", "status", "expected"),
    [
        (
            http_result(201, "made"),
            200,
            {"resultType": "httpResponse", "data": {"statusCode": 201, "headers": {}, "body": "made"}},
        ),
        (
            (200, {"resultType": "error", "data": {"code": "NO", "message": "no", "details": {"a": 1}}}),
            400,
            {"code": "NO", "detail": "no", "details": {"a": 1}},
        ),
        ((500, {"error": "HANDLER_EXCEPTION", "details": "secret"}), 500, {"code": "HANDLER_EXCEPTION"}),
        ((200, {"resultType": "httpResponse", "data": {"statusCode": 1}}), 502, {"code": "BAD_RESULT"}),
        (generic("text"), 502, {"code": "RESPONSE_SCHEMA_VIOLATION"}),
    ],
)
async def test_results_and_errors(
    stage: Stage, sandbox: Sandbox, door: Door, answer: Answer, status: int, expected: dict[str, Any]
) -> None:
    schemas = {"schemas/out.json": {"type": "object"}}
    wants_object = {"responseSchema": "schemas/out.json"} if answer == generic("text") else {}
    await stage.publish([{**HELPER, **wants_object}], sandbox.lanes, schemas=schemas)
    sandbox.script = lambda _: answer
    found = await door.invoke()
    assert found[0] == status
    assert expected.items() <= found[1].items()
    assert b"secret" not in orjson.dumps(found[1])


async def test_the_input_is_checked(stage: Stage, sandbox: Sandbox, door: Door) -> None:
    schemas = {"schemas/in.json": {"type": "object", "required": ["a"]}}
    await stage.publish([{**HELPER, "requestSchema": "schemas/in.json"}], sandbox.lanes, schemas=schemas)
    status, answer = await door.invoke(given={"b": 1})
    assert (status, answer["code"]) == (422, "REQUEST_SCHEMA_VIOLATION")
    assert answer["errors"] == [{"pointer": "", "detail": "'a' is a required property"}]
    assert sandbox.requests == []


async def test_an_input_that_cannot_be_checked_in_time_is_refused(
    stage: Stage, sandbox: Sandbox, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_jobs(monkeypatch, 1.0)
    schemas = {"schemas/in.json": {"pattern": "^(a+)+$"}}
    await stage.publish([{**HELPER, "requestSchema": "schemas/in.json"}], sandbox.lanes, schemas=schemas)
    status, answer = await door.invoke(given="a" * 64 + "!")
    assert (status, answer["code"]) == (422, "REQUEST_SCHEMA_VIOLATION")
    assert [error["detail"].partition(":")[0] for error in answer["errors"]] == [
        "it could not be held against its schema in time"
    ]
    assert sandbox.requests == []
    assert (await door.invoke(given="aaa"))[0] == 200


async def test_what_cannot_be_called(stage: Stage, sandbox: Sandbox, door: Door) -> None:
    await stage.publish([HELPER, {"componentId": "prompt", "handlerType": "WORKFLOW"}], sandbox.lanes)
    await stage.publish([{"componentId": "theirs"}], sandbox.lanes, deployment="other")
    of_another_app, of_nobody = await door.invoke("theirs"), await door.invoke("nobody")
    assert of_another_app[0] == of_nobody[0] == 404
    assert of_another_app[1]["detail"].replace("theirs", "nobody") == of_nobody[1]["detail"]
    assert (await door.invoke(deployment="gone"))[1]["code"] == "NOT_SERVED"
    assert (await door.invoke("prompt"))[1]["code"] == "HANDLER_TYPE_NOT_AVAILABLE"
    status, answer = await door.invoke(depth=9)
    assert (status, answer["code"]) == (508, "INVOKE_TOO_DEEP")
    await stage.publish([HELPER], sandbox.lanes, suspended=True)
    assert (await door.invoke())[1]["code"] == "APP_SUSPENDED"
    assert sandbox.requests == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"deployment": "demo", "componentId": "helper"}'])
async def test_what_is_no_call(stage: Stage, door: Door, body: bytes) -> None:
    assert (await door.post(body))[0] == 400
    assert (await door.post(b"{}", "/metrics"))[0] == 404


async def test_a_component_that_waits_for_its_own_lane_is_told_so(
    stage: Stage, sandbox: Sandbox, door: Door
) -> None:
    await stage.publish([HELPER, route("/")], sandbox.lanes, pool={"queueTimeoutSeconds": 0.2})
    refused: list[Any] = []

    async def calls_its_own_pool(_: dict[str, Any]) -> Answer:
        refused.append(await door.invoke())
        return generic("went on")

    sandbox.script = calls_its_own_pool
    assert (await stage.ask("GET", "/")).json() == "went on"
    ((status, answer),) = refused
    assert (status, answer["code"]) == (503, "POOL_BUSY")
    assert answer["retryAfter"] == 1
    assert "raise concurrency or maxInstances of python" in answer["detail"]


async def test_a_sleeping_deployment_is_woken(stage: Stage, sandbox: Sandbox, door: Door) -> None:
    await stage.publish([HELPER], [], on_demand=True)
    call = asyncio.create_task(door.invoke())

    async def asked_for() -> bool:
        return bool(await stage.redis.exists(keys.load("demo")))

    await eventually(asked_for, "somebody asks for an instance")
    await stage.publish([HELPER], sandbox.lanes, on_demand=True)
    assert (await call)[0] == 200


async def test_a_caller_that_hangs_up_stops_the_handler(stage: Stage, sandbox: Sandbox, door: Door) -> None:
    await stage.publish([HELPER], sandbox.lanes)

    async def for_ever(_: dict[str, Any]) -> Answer | None:
        await eventually(lambda: bool(sandbox.cancelled), "the handler is stopped")
        return None

    sandbox.script = for_ever
    call = asyncio.create_task(door.invoke())
    await eventually(lambda: bool(sandbox.requests), "the handler runs")
    call.cancel()
    await eventually(lambda: bool(sandbox.cancelled), "the sandbox is told")
    assert sandbox.cancelled == [sandbox.requests[0]["requestId"]]


async def test_the_door_is_this_user_s_alone_and_goes_with_the_gateway(stage: Stage) -> None:
    path = await the_socket(stage)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await stage.stop_gateway()
    assert not path.exists()


async def test_what_a_killed_gateway_left_is_removed(stage: Stage) -> None:
    await the_socket(stage)
    await stage.stop_gateway()
    folder = stage.settings.home.gateways
    dead, starting = folder / "dead.sock", folder / "starting.sock"
    for path in (dead, starting):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    long_ago = time.time() - 60
    os.utime(dead, (long_ago, long_ago))
    await stage.start_gateway()
    await eventually(lambda: {*folder.glob("*.sock")} - {dead, starting}, "the gateway has its door open")
    assert (dead.exists(), starting.exists()) == (False, True)
