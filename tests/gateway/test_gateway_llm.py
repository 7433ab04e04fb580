"""LLM components at the gateway: how failures look, whose lanes they take, and answers that stream."""

import asyncio
import json
from typing import Any

import pytest

from gateway.far_end import Answer, Sandbox, generic
from gateway.stage import RawClient, Stage, raw, route
from support.waiting import eventually

EVENTS = b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
RESULT = {"requestId": "r", "resultType": "generic", "data": {"a": 1}, "metrics": {"llm": {"scripted": True}}}


def llm(pattern: str = "/", **more: Any) -> dict[str, Any]:
    return route(pattern, "POST", "GET", handlerType="LLM", taskDetails={"prompt_template": "p.yaml"}, **more)


def event(data: Any, name: str = "") -> bytes:
    """One event as the runner sends it, in a chunk of its own."""
    text = (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"
    return b"%x\r\n%b\r\n" % (len(text.encode()), text.encode())


def stream(*events: bytes) -> Answer:
    return 200, EVENTS + b"".join(events) + b"0\r\n\r\n"


@pytest.fixture(autouse=True)
def serves_llm(sandbox: Sandbox) -> None:
    sandbox.serves = "LLM"


@pytest.mark.parametrize(
    ("code", "details", "status", "wait"),
    [
        ("LLM_NOT_CONFIGURED", None, 503, None),
        ("LLM_RATE_LIMITED", {"retryAfter": 6.2}, 429, "7"),
        ("LLM_RATE_LIMITED", {"retryAfter": "soon\r\nX: 1"}, 429, "10"),
        ("LLM_REFUSED", None, 422, None),
        ("LLM_INVALID_OUTPUT", None, 502, None),
        ("LLM_TIMEOUT", None, 504, None),
        ("LLM_UNAVAILABLE", None, 503, "5"),
        ("LLM_BAD_REQUEST", None, 500, None),
        ("POLICY_DENIED", None, 403, None),
        ("SECRET_MISSING", None, 503, None),
        ("SECRETS_UNAVAILABLE", None, 503, "5"),
        ("UNAVAILABLE", None, 503, "5"),
        ("PROMPT_TOO_LARGE", None, 413, None),
        ("PROMPT_FAILED", None, 500, None),
        ("LLM_UNHEARD_OF", None, 500, None),
    ],
)
async def test_each_failure_has_its_status(
    stage: Stage, sandbox: Sandbox, code: str, details: Any, status: int, wait: str | None
) -> None:
    await stage.publish([llm()], sandbox.lanes)
    data = {"code": code, "message": "secret", "details": details}
    sandbox.script = lambda _: (500, {"error": code, "details": "secret", "data": data})
    response = await stage.ask("POST", "/")
    assert response.status == status
    assert response.json()["code"] == ("SANDBOX_ERROR" if code == "LLM_UNHEARD_OF" else code)
    assert response.all("Retry-After") == ([] if wait is None else [wait])
    assert b"secret" not in response.body


async def test_a_budget_begins_anew_at_midnight(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([llm()], sandbox.lanes)
    sandbox.script = lambda _: (500, {"error": "LLM_OVER_BUDGET"})
    response = await stage.ask("POST", "/")
    assert response.status == 429
    assert 0 < int(response["Retry-After"]) <= 86400


async def test_a_scripted_answer_says_so(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([llm()], sandbox.lanes)
    sandbox.script = lambda _: (200, RESULT)
    response = await stage.ask("POST", "/")
    assert (response.json(), response["X-LLM-Scripted"]) == ({"a": 1}, "true")


@pytest.mark.parametrize("code", ["LLM_REFUSED", "LLM_INVALID_OUTPUT", "LLM_RATE_LIMITED"])
@pytest.mark.parametrize("scripted", [True, False])
async def test_a_scripted_failure_says_so(stage: Stage, sandbox: Sandbox, code: str, scripted: bool) -> None:
    await stage.publish([llm()], sandbox.lanes)
    details = {"scripted": True} if scripted else {"scripted": "yes"}
    sandbox.script = lambda _: (500, {"error": code, "data": {"details": details}})
    response = await stage.ask("POST", "/")
    assert response.all("X-LLM-Scripted") == (["true"] if scripted else [])
    assert response.json().get("scripted", False) is scripted


async def test_a_scripted_stream_says_so_when_it_opens_and_when_it_fails(
    stage: Stage, sandbox: Sandbox
) -> None:
    await stage.publish([llm(stream=True)], sandbox.lanes)
    failure = {"error": "LLM_INVALID_OUTPUT", "data": {"details": {"scripted": True}}}
    head = EVENTS.replace(b"\r\n\r\n", b"\r\nX-LLM-Scripted: true\r\n\r\n")
    answer = head + event({"delta": "a"}) + event(failure, "error") + b"0\r\n\r\n"
    sandbox.script = lambda _: (200, answer)
    client = await stage.connect()
    client.send(raw("POST", "/", body=b""))
    told = (await client.reader.readuntil(b"\r\n\r\n")).decode()
    assert "\r\nX-LLM-Scripted: true\r\n" in told
    _, last = [piece async for piece in chunks(client)]
    assert json.loads(last.partition("data: ")[2])["scripted"] is True
    sandbox.script = lambda _: stream(event({"delta": "a"}), event(RESULT, "result"))
    client.send(raw("POST", "/", body=b""))
    assert b"X-LLM-Scripted" not in await client.reader.readuntil(b"\r\n\r\n")
    await client.close()


async def test_code_and_llms_of_one_pool_take_their_own_lanes(stage: Stage, sandbox: Sandbox) -> None:
    code = Sandbox(sandbox.folder.parent, "i1")
    await code.start()
    code.script = lambda _: generic("code")
    sandbox.script = lambda _: generic("llm")
    components = [llm("/llm", component="l"), route("/code", component="c")]
    await stage.publish(components, [*sandbox.lanes, *code.lanes])
    for _ in range(2):
        assert (await stage.ask("POST", "/llm")).json() == "llm"
        assert (await stage.ask("GET", "/code")).json() == "code"
    await code.stop()


async def events_of(client: RawClient) -> list[str]:
    """A chunked body, each chunk as it came; the head must say so."""
    head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
    assert "\r\nTransfer-Encoding: chunked\r\n" in head
    assert "\r\nCache-Control: no-store\r\n" in head
    return [piece async for piece in chunks(client)]


async def chunks(client: RawClient) -> Any:
    while size := int(await client.reader.readuntil(b"\r\n"), 16):
        yield (await client.reader.readexactly(size)).decode()
        await client.reader.readexactly(2)
    await client.reader.readexactly(2)


async def test_pieces_reach_the_client_as_they_come_and_the_connection_is_kept(
    stage: Stage, sandbox: Sandbox
) -> None:
    await stage.publish([llm(stream=True)], sandbox.lanes)
    sandbox.script = lambda _: stream(event({"delta": "a"}), event({"delta": "b"}), event(RESULT, "result"))
    client = await stage.connect()
    for _ in range(2):
        client.send(raw("POST", "/", ("Accept", "text/event-stream"), body=b"{}"))
        assert await events_of(client) == [
            'data: {"delta": "a"}\n\n',
            'data: {"delta": "b"}\n\n',
            'event: result\ndata: {"result":{"a":1},"llm":{"scripted":true}}\n\n',
        ]
    await client.close()
    assert [one["context"]["stream"] for one in sandbox.requests] == [True, True]
    assert sandbox.cancelled == []


@pytest.mark.parametrize(("accept", "streams"), [("application/json", False), ("*/*", True), (None, True)])
async def test_a_client_that_takes_no_events_gets_the_whole_answer(
    stage: Stage, sandbox: Sandbox, accept: str | None, streams: bool
) -> None:
    await stage.publish([llm(stream=True)], sandbox.lanes)
    sandbox.script = lambda _: (200, RESULT)
    response = await stage.ask("POST", "/", *([("Accept", accept)] if accept else []))
    assert response.json() == {"a": 1}
    assert sandbox.requests[0]["context"].get("stream", False) is streams


async def test_a_client_of_http_1_0_reads_to_the_end(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([llm(stream=True)], sandbox.lanes)
    sandbox.script = lambda _: stream(event({"delta": "a"}), event(RESULT, "result"))
    client = await stage.connect()
    client.send(b"GET / HTTP/1.0\r\nHost: demo.localhost\r\n\r\n")
    text = await client.reader.read()
    assert b"Transfer-Encoding" not in text
    assert text.endswith(b'"llm":{"scripted":true}}\n\n')
    await client.close()


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (event({"error": "LLM_INVALID_OUTPUT", "details": "secret"}, "error"), "LLM_INVALID_OUTPUT"),
        (event({**RESULT, "data": "x"}, "result"), "RESPONSE_SCHEMA_VIOLATION"),
        (event({**RESULT, "resultType": "httpResponse"}, "result"), "BAD_RESULT"),
        (event("x", "unheard of"), "BAD_RESULT"),
        (b"", "SANDBOX_LOST"),
    ],
)
async def test_what_goes_wrong_later_is_an_error_event(
    stage: Stage, sandbox: Sandbox, last: bytes, code: str
) -> None:
    await stage.publish(
        [llm(stream=True, responseSchema="schemas/a.json")],
        sandbox.lanes,
        schemas={"schemas/a.json": {"type": "object"}},
    )
    sandbox.script = lambda _: stream(event({"delta": "a"}), last)
    client = await stage.connect()
    client.send(raw("POST", "/", body=b""))
    delta, told = await events_of(client)
    assert delta == 'data: {"delta": "a"}\n\n'
    assert told.startswith("event: error\ndata: ")
    assert json.loads(told.partition("data: ")[2])["code"] == code
    assert "secret" not in told
    await client.close()


async def test_a_stream_that_takes_too_long_ends_with_an_error(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([llm(stream=True)], sandbox.lanes, pool={"timeoutSeconds": 0.1})
    sandbox.script = lambda _: (200, EVENTS + event({"delta": "a"}))
    client = await stage.connect()
    client.send(raw("POST", "/", ("X-Request-ID", "r9"), body=b""))
    _, told = await events_of(client)
    assert json.loads(told.partition("data: ")[2])["code"] == "HANDLER_TIMEOUT"
    await eventually(lambda: sandbox.cancelled == ["r9"], "the request is cancelled")
    await client.close()


async def test_a_request_that_never_answers_is_sent_once_only(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([llm(stream=True)], sandbox.lanes, pool={"timeoutSeconds": 0.1})
    forever = asyncio.Event()

    async def never(_: Any) -> Answer | None:
        await forever.wait()
        return None

    sandbox.script = never
    response = await stage.ask("POST", "/", ("X-Request-ID", "r2"))
    assert (response.status, response.json()["code"]) == (504, "HANDLER_TIMEOUT")
    await eventually(lambda: sandbox.cancelled == ["r2"], "the request is cancelled")
    assert len(sandbox.requests) == 1
    forever.set()


async def test_a_lane_that_is_full_or_gone_is_passed_over(stage: Stage, sandbox: Sandbox) -> None:
    dead = {"instance": "d", "socket": str(sandbox.folder / "none.sock"), "capacity": 1, "serves": "LLM"}
    await stage.publish([llm(stream=True)], [dead, *sandbox.lanes])
    answers = [(429, {"error": "Too Many Requests"}), stream(event(RESULT, "result"))]
    sandbox.script = lambda _: answers.pop(0)
    client = await stage.connect()
    client.send(raw("POST", "/", body=b""))
    [told] = await events_of(client)
    assert told.startswith("event: result")
    await client.close()


@pytest.mark.parametrize("begun", [True, False])
async def test_a_client_that_hangs_up_cancels_the_request_and_frees_the_lane(
    stage: Stage, sandbox: Sandbox, begun: bool
) -> None:
    await stage.publish([llm(stream=True)], sandbox.lanes)
    forever = asyncio.Event()

    async def never(_: Any) -> Answer | None:
        await forever.wait()
        return None

    sandbox.script = lambda request: (200, EVENTS + event({"delta": "a"})) if begun else never(request)
    client = await stage.connect()
    client.send(raw("POST", "/", ("X-Request-ID", "r1"), body=b""))
    await eventually(lambda: len(sandbox.requests) == 1, "the request is under way")
    if begun:
        await client.reader.readuntil(b"\n\n")
    await client.close()
    await eventually(lambda: sandbox.cancelled == ["r1"], "the request is cancelled")
    forever.set()
    sandbox.script = lambda _: (200, RESULT)
    assert (await stage.ask("POST", "/")).json() == {"a": 1}


async def test_a_slow_reader_holds_up_its_own_sandbox_only(stage: Stage, sandbox: Sandbox) -> None:
    """The gateway keeps no more of a stream than sockets and a few pieces hold."""
    await stage.publish([llm(stream=True)], sandbox.lanes)
    piece = event({"delta": "x" * 60_000})
    sandbox.script = lambda _: stream(*[piece] * 500, event(RESULT, "result"))
    client = await stage.connect()
    client.send(raw("POST", "/", body=b""))
    assert stage.task is not None
    await eventually(lambda: len(sandbox.requests) == 1, "the request is under way")
    assert (await stage.ask("GET", "/nothing")).status == 404
    pieces = await events_of(client)
    assert len(pieces) == 501
    assert pieces[-1].startswith("event: result")
    await client.close()
