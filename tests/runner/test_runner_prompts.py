"""LLM components in a real runner: rendering, failures, bounds, streams, and what a request leaves behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from runner.llm import Llm
from runner.sandbox import Sandbox
from support.fake_mcp import FakeMcp, Said, completion
from support.waiting import eventually
from uhlp_core.home import Home
from uhlp_reconcilers.backends.process import ProcessBackend

OK = {"ready": True}


@pytest.fixture
async def llm(home: Home, backend: ProcessBackend) -> AsyncIterator[Llm]:
    sandbox = Sandbox(home, backend, "shop", "fork")
    await sandbox.start(concurrency=4)
    async with FakeMcp(sandbox.instance.dir / "mcp.sock") as mcp:
        yield Llm(sandbox, mcp)


async def test_a_prompt_becomes_one_call_and_its_output_the_result(llm: Llm) -> None:
    prompt = {
        "system": "Be {{ config.tone }}.",
        "template": "Hello {{ input.name }}",
        "model": "big",
        "parameters": {"temperature": 0},
        "outputSchema": {"type": "object"},
        "maxRepairs": 2,
        "examples": [{"input": {"input": {"name": "Ada"}}, "output": {"hi": "Ada"}}],
    }
    assert await llm.prepare(greet=prompt) == (200, OK)
    llm.mcp.script = lambda _: completion({"hi": "Bob"})
    status, answer = await llm.ask("greet", {"name": "Bob"}, mcp_token="abc")
    assert (status, answer["resultType"], answer["data"]) == (200, "generic", {"hi": "Bob"})
    metrics = answer["metrics"]
    assert metrics["llm"]["scripted"] is True
    assert metrics["mcp_calls"][0]["token_usage"] == {"prompt": 3, "completion": 2}
    [call] = llm.mcp.calls
    boundary = call["messages"][0]["content"].partition("data-")[2][:16]
    assert call.pop("system").startswith(f"Be kind.\n\nText between <data-{boundary}> and </data-{boundary}>")
    assert len(call.pop("promptVersion")) == 12
    assert call == {
        "messages": [
            {"role": "user", "content": f"Hello <data-{boundary}>Ada</data-{boundary}>"},
            {"role": "assistant", "content": '{"hi": "Ada"}'},
            {"role": "user", "content": f"Hello <data-{boundary}>Bob</data-{boundary}>"},
        ],
        "model": "big",
        "parameters": {"temperature": 0},
        "outputFormat": "json",
        "outputSchema": {"type": "object"},
        "maxRepairs": 2,
        "promptName": "prompts/greet.yaml",
    }
    assert "Authorization: Bearer abc\r\n" in llm.mcp.heads[0]
    assert f"X-Request-ID: {answer['requestId']}\r\n" in llm.mcp.heads[0]
    status, answer = await llm.sandbox.ask("GET", "/readyz")
    assert answer["prepared"] == ["t1"]
    assert {"socket": "execute.sock", "capacity": 4, "serves": "LLM"} in answer["lanes"]


async def test_what_the_variables_are(llm: Llm) -> None:
    await llm.prepare(all="{{ httpDetails.method }} {{ input }} {{ context.componentId }} {{ config.tone }}")
    ask = llm.request("all")
    headers = {"Content-Type": "application/json"}
    http = {"method": "POST", "headers": headers, "body": '{"a": [1]}'}
    ask["requestData"] = {"source": "http", "httpDetails": http}
    assert (await llm.sandbox.ask("POST", "/execute", ask))[0] == 200
    text = llm.mcp.calls[0]["messages"][0]["content"]
    boundary = text.partition("data-")[2][:16]
    assert text == (
        f'<data-{boundary}>POST</data-{boundary}> <data-{boundary}>{{"a": [1]}}</data-{boundary}> all kind'
    )


@pytest.mark.parametrize(
    ("expected", "output", "kind", "data"),
    [
        (None, "text", "generic", "text"),
        (None, {"statusCode": 302, "headers": {"Location": "/evil"}}, "generic", ...),
        ("generic", {"statusCode": 200}, "generic", ...),
        (
            "httpResponse",
            {"statusCode": 201, "body": "made"},
            "httpResponse",
            {"statusCode": 201, "headers": {}, "body": "made", "bodyEncoding": "utf8"},
        ),
    ],
)
async def test_only_a_component_that_says_so_lets_the_llm_choose_the_response(
    llm: Llm, expected: str | None, output: Any, kind: str, data: Any
) -> None:
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: completion(output)
    status, answer = await llm.ask("p", expectedResultFormat=expected)
    assert (status, answer["resultType"]) == (200, kind)
    assert answer["data"] == (output if data is ... else data)


@pytest.mark.parametrize("code", ["LLM_REFUSED", "LLM_OVER_BUDGET", "LLM_INVALID_OUTPUT", "LLM_TIMEOUT"])
async def test_the_tools_failure_is_the_requests(llm: Llm, code: str) -> None:
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: Said(code=code, message="so it is")
    status, answer = await llm.ask("p")
    assert (status, answer["error"], answer["data"]["details"]) == (500, code, None)


async def test_how_long_to_wait_is_passed_on(llm: Llm) -> None:
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: Said(code="LLM_RATE_LIMITED", message="later", retry_after=7.5)
    assert (await llm.ask("p"))[1]["data"]["details"] == {"retryAfter": 7.5}


async def test_that_no_model_said_so_is_passed_on(llm: Llm) -> None:
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: Said(code="LLM_REFUSED", message="no", scripted=True)
    assert (await llm.ask("p"))[1]["data"]["details"] == {"scripted": True}


async def test_a_tool_that_cannot_be_reached(llm: Llm) -> None:
    await llm.prepare(p="x")
    status, answer = await llm.ask("p", mcp_endpoint="")
    assert (status, answer["error"]) == (500, "LLM_UNAVAILABLE")
    found = llm.sandbox.lines(stream="runner", component="p")
    assert "LLM_UNAVAILABLE" in found[-1]["message"]


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ("\n{{ input.missing }}", "PROMPT_FAILED"),
        ("{{ nothing }}", "PROMPT_FAILED"),
        ("{{ input.text.__class__.__mro__ }}", "PROMPT_FAILED"),
        ("{{ input.list.append(1) }}", "PROMPT_FAILED"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "PROMPT_FAILED"),
        ("{% for a in range(9999) %}{{ input.text * 9999 }}{% endfor %}", "PROMPT_TOO_LARGE"),
        (
            "{% for a in range(999) %}{% for a in range(99) %}{{ input.empty }}{% endfor %}{% endfor %}",
            "PROMPT_TOO_LARGE",
        ),
        ("{% set n = namespace(x='x' * 9) %}{% for a in range(99) %}{% set n.x = n.x * 9 %}{% endfor %}",
         "OUT_OF_MEMORY"),
    ],
)  # fmt: skip
async def test_a_template_that_fails_or_runs_away_ends_alone(llm: Llm, template: str, code: str) -> None:
    """The request beside it, which waits for its LLM, and the request after it are answered."""
    go = asyncio.Event()

    async def slow(arguments: dict[str, Any]) -> Said:
        await go.wait()
        return completion("slow")

    llm.mcp.script = slow
    assert await llm.prepare(bad=template, good="fine") == (200, OK)
    beside = asyncio.create_task(llm.ask("good"))
    await eventually(lambda: len(llm.mcp.calls) == 1, "the call is under way")
    status, answer = await llm.ask("bad", {"text": "abc", "list": [], "empty": ""})
    assert (status, answer["error"]) == (500, code)
    go.set()
    assert (await beside)[1]["data"] == "slow"
    assert (await llm.ask("good"))[1]["data"] == "slow"
    assert len(llm.mcp.calls) == 2


async def test_the_log_names_the_place_in_a_prompt_that_failed(llm: Llm) -> None:
    await llm.prepare(
        asks={"system": "Hi", "template": "\n{{ input.missing }}"},
        tells={"system": "{{ input.missing }}", "template": "x"},
        large="{% for a in range(9999) %}{{ input.text * 9999 }}{% endfor %}",
    )
    for name, place in {
        "asks": "PROMPT_FAILED: prompts/asks.yaml: line 2 of `template`: UndefinedError: ",
        "tells": "PROMPT_FAILED: prompts/tells.yaml: line 1 of `system`: UndefinedError: ",
        "large": "PROMPT_TOO_LARGE: prompts/large.yaml: the prompt is larger than ",
    }.items():
        assert (await llm.ask(name, {"text": "abc"}))[0] == 500
        assert llm.sandbox.lines(stream="runner", component=name)[-1]["message"].startswith(place)


async def test_a_template_that_is_not_allowed_is_refused_before_it_serves(llm: Llm) -> None:
    status, answer = await llm.prepare(good="x", bad="a\n{% include 'b' %}")
    assert status == 422
    [problem] = answer["details"]
    assert (problem["componentId"], problem["script"], problem["line"]) == ("bad", "prompts/bad.yaml", 2)
    assert problem["message"] == "`template`: a prompt cannot use Include"
    assert (await llm.ask("good"))[1]["error"] == "HANDLER_NOT_FOUND"


async def test_a_call_that_takes_too_long_ends_at_the_requests_time(llm: Llm) -> None:
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: asyncio.sleep(30, completion("late"))
    status, answer = await llm.ask("p", timeoutMs=1000)
    assert (status, answer["error"]) == (500, "HANDLER_TIMEOUT")
    await eventually(lambda: llm.mcp.gone == 1, "the call is cancelled")


async def test_a_client_that_has_gone_cancels_the_call(llm: Llm) -> None:
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: asyncio.sleep(30, completion("late"))
    asked = asyncio.create_task(llm.ask("p", request_id="r1"))
    await eventually(lambda: len(llm.mcp.calls) == 1, "the call is under way")
    assert (await llm.sandbox.ask("POST", "/cancel", {"requestId": "r1"}))[0] == 200
    assert (await asked)[1]["error"] == "CANCELLED"
    await eventually(lambda: llm.mcp.gone == 1, "the call is cancelled")


async def test_requests_beyond_the_concurrency_are_refused_and_code_has_room_of_its_own(llm: Llm) -> None:
    llm.sandbox.tree("t2", {"main.py": "def handle(input, context):\n    return 'code'\n"})
    assert (await llm.sandbox.prepare("t2", "main.py", "handle"))[0] == 200
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: asyncio.sleep(30, completion("late"))
    waiting = [asyncio.create_task(llm.ask("p", request_id=f"w{n}")) for n in range(4)]
    await eventually(lambda: len(llm.mcp.calls) == 4, "four calls are under way")
    assert (await llm.ask("p"))[0] == 429
    assert (await llm.sandbox.execute("handle", tree="t2"))[1]["data"] == "code"
    for n in range(4):
        await llm.sandbox.ask("POST", "/cancel", {"requestId": f"w{n}"})
    await asyncio.gather(*waiting)


async def events(llm: Llm, ask: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(llm.sandbox.instance.dir / "execute.sock")
    body = json.dumps(ask).encode()
    writer.write(b"POST /execute HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    return reader, writer


async def test_a_stream_passes_on_each_piece_as_it_comes(llm: Llm) -> None:
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: completion("Hällo", "Häl", "lo")
    llm.mcp.between = asyncio.Event()
    reader, writer = await events(llm, llm.request("p", stream=True))
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n" in head
    first = 'data: {"delta": "Häl"}\n\n'.encode()
    assert await reader.readexactly(len(first) + 6) == b"%x\r\n%b\r\n" % (len(first), first)
    llm.mcp.between.set()
    await eventually(lambda: not llm.mcp.between.is_set(), "the first piece was followed")  # type: ignore[union-attr]
    llm.mcp.between.set()
    rest = (await reader.read()).decode()
    assert 'data: {"delta": "lo"}\n\n' in rest
    assert '\r\nevent: result\ndata: {"requestId":' in rest
    assert rest.endswith("\n\n\r\n0\r\n\r\n")
    writer.close()


async def test_a_stream_that_fails_before_it_speaks_is_an_ordinary_failure(llm: Llm) -> None:
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: Said(code="LLM_REFUSED", message="no")
    status, answer = await llm.ask("p", stream=True)
    assert (status, answer["error"]) == (500, "LLM_REFUSED")


async def test_a_stream_without_pieces_is_a_stream_all_the_same(llm: Llm) -> None:
    """As when the answer was kept from an earlier request."""
    await llm.prepare(p="x")
    reader, writer = await events(llm, llm.request("p", stream=True))
    text = (await reader.read()).decode()
    assert "Content-Type: text/event-stream\r\n" in text
    assert "\r\nevent: result\ndata: {" in text
    writer.close()


@pytest.mark.parametrize(
    ("said", "scripted"),
    [
        (completion("hi", scripted=True), True),
        (completion("hi", scripted=False), False),
        (Said(code="LLM_REFUSED", message="no", deltas=("h",), scripted=True), True),
        (Said(code="LLM_REFUSED", message="no", deltas=("h",)), False),
    ],
)
async def test_a_stream_that_no_model_writes_says_so_when_it_opens(
    llm: Llm, said: Said, scripted: bool
) -> None:
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: said
    reader, writer = await events(llm, llm.request("p", stream=True))
    head = await reader.readuntil(b"\r\n\r\n")
    assert (b"\r\nX-LLM-Scripted: true\r\n" in head) is scripted
    writer.close()


async def test_a_stream_that_fails_later_says_so_in_its_last_event(llm: Llm) -> None:
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: Said(code="LLM_INVALID_OUTPUT", message="no", deltas=("Hal",))
    reader, writer = await events(llm, llm.request("p", stream=True))
    text = (await reader.read()).decode()
    assert "\r\nevent: error\ndata: {" in text
    assert '"error":"LLM_INVALID_OUTPUT"' in text
    writer.close()


async def test_a_reader_that_hangs_up_cancels_the_call(llm: Llm) -> None:
    await llm.prepare(p="x")
    llm.mcp.script = lambda _: completion("Hello", *(["Hel"] * 1000))
    llm.mcp.between = asyncio.Event()
    reader, writer = await events(llm, llm.request("p", stream=True))
    await reader.readuntil(b"\r\n\r\n")
    writer.close()

    def hung_up() -> bool:
        assert llm.mcp.between is not None
        llm.mcp.between.set()
        return llm.mcp.gone == 1

    await eventually(hung_up, "the call is cancelled")
