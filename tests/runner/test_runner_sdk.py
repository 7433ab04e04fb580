"""`uhlp_sdk` and `uhlp-sdk` inside a sandbox, against an MCP server in the instance's folder."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import ANY

from runner.conftest import Start
from runner.sandbox import Sandbox
from support.waiting import eventually

PYTHON = """
from uhlp_sdk import ToolError, call_tool, invoke, log, state

def healthy(input, context):
    return "well"

def uses_state(input, context):
    state.set("a", {"b": 1}, ttl_seconds=5)
    return [state.get("a"), state.get("none", "default"), state.increment("n", 2), state.delete("a")]

def fails(input, context):
    try:
        call_tool("app.fails", {})
    except ToolError as error:
        return [error.code, error.message]

def begins(input, context):
    log.info("begun")
    return call_tool("app.text", {})

def echoes(input, context):
    return call_tool("app.text", {"a": 1})

def invokes(input, context):
    return [invoke("add", [1]), invoke("add", None, 500)]

def side_by_side(input, context):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda number: call_tool("app.text", {"a": number}), range(400)))
"""

JAVASCRIPT = """
import { ToolError, callTool, invoke, log, state } from "uhlp-sdk";

export const healthy = () => "well";

export async function uses_state() {
  await state.set("a", { b: 1 }, { ttlSeconds: 5 });
  const values = [await state.get("a"), await state.get("none", "default")];
  return [...values, await state.increment("n", 2), await state.delete("a")];
}

export async function fails() {
  try {
    await callTool("app.fails", {});
  } catch (error) {
    if (error instanceof ToolError) return [error.code, error.message];
  }
}

export function begins() {
  log.info("begun");
  return callTool("app.text");
}

export const echoes = () => callTool("app.text", { a: 1 });
export const side_by_side = () =>
  Promise.all(Array.from({ length: 400 }, (_, number) => callTool("app.text", { a: number })));
export const invokes = async () => [await invoke("add", [1]), await invoke("add", null, 500)];
"""

CODE = {"python": PYTHON, "javascript": JAVASCRIPT}


def answer(call: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    name, arguments = call["name"], call["arguments"]
    key = arguments.get("key")
    if name == "core.state.setRuntimeValue":
        values[key] = arguments["value"]
        assert arguments["ttlSeconds"] == 5
        return {"structuredContent": {"success": True}, "content": []}
    if name == "core.state.getRuntimeValue":
        return {"structuredContent": {"found": key in values, "value": values.get(key)}, "content": []}
    if name == "core.state.incrementRuntimeValue":
        return {"structuredContent": {"value": arguments["amount"]}, "content": []}
    if name == "core.state.deleteRuntimeValue":
        return {"structuredContent": {"success": values.pop(key, None) is not None}, "content": []}
    if name == "core.component.invoke":
        return {"structuredContent": {"resultType": "generic", "data": arguments}, "content": []}
    if name == "app.fails":
        text = [{"type": "text", "text": "NO_LUCK: no luck"}]
        return {"isError": True, "_meta": {"uhlp/error": {"code": "NO_LUCK"}}, "content": text}
    return {"content": [{"type": "text", "text": json.dumps(arguments)}]}


Answering = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


@asynccontextmanager
async def mcp_server(
    sandbox: Sandbox, sent: Sequence[str] = (), answering: Answering = answer
) -> AsyncIterator[str]:
    values: dict[str, Any] = {}
    talking: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"POST /mcp HTTP/1.1\r\n")
                assert all(f"{header}\r\n".encode() in head for header in sent)
                length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                message = json.loads(await reader.readexactly(length))
                assert message["method"] == "tools/call"
                result = answering(message["params"], values)
                body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        except (EOFError, ConnectionError):
            return
        finally:
            talking.discard(task)
            writer.close()

    path = sandbox.instance.dir / "mcp.sock"
    server = await asyncio.start_unix_server(serve, path)
    path.chmod(0o666)
    async with server:
        yield f"unix:{path}"
        # The sandbox, which keeps its connections, ends later than this test's event loop.
        for task in (left := list(talking)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def test_state_and_the_count_of_calls(start: Start) -> None:
    sandbox = await start(CODE)
    async with mcp_server(sandbox) as endpoint:
        for _ in range(2):
            status, body = await sandbox.execute("uses_state", mcp_endpoint=endpoint)
            assert (status, body["data"]) == (200, [{"b": 1}, "default", 2, True])
            calls = {call["tool"]: call["count"] for call in body["metrics"]["mcp_calls"]}
            assert calls == {
                "core.state.setRuntimeValue": 1,
                "core.state.getRuntimeValue": 2,
                "core.state.incrementRuntimeValue": 1,
                "core.state.deleteRuntimeValue": 1,
            }
            assert all(call["total_duration_ms"] > 0 for call in body["metrics"]["mcp_calls"])


async def test_errors(start: Start) -> None:
    sandbox = await start(CODE)
    async with mcp_server(sandbox) as endpoint:
        _, body = await sandbox.execute("fails", mcp_endpoint=endpoint)
        assert body["data"] == ["NO_LUCK", "app.fails: no luck"]
        _, body = await sandbox.execute("echoes", mcp_endpoint=endpoint)
        assert json.loads(body["data"]) == {"a": 1}
    _, body = await sandbox.execute("fails", mcp_endpoint="")
    assert body["data"] == ["MCP_UNREACHABLE", ANY]


async def test_a_call_waits_for_a_door_that_is_about_to_open(start: Start) -> None:
    sandbox = await start(CODE)
    path = sandbox.instance.dir / "mcp.sock"
    asking = asyncio.create_task(sandbox.execute("begins", mcp_endpoint=f"unix:{path}"))
    await eventually(lambda: sandbox.lines(message="begun"), "the handler runs")
    async with mcp_server(sandbox):
        status, body = await asking
    assert (status, json.loads(body["data"])) == (200, {})


async def test_the_server_may_restart_between_two_calls(start: Start) -> None:
    sandbox = await start(CODE)
    for _ in range(2):
        async with mcp_server(sandbox) as endpoint:
            status, body = await sandbox.execute("echoes", mcp_endpoint=endpoint)
            assert (status, json.loads(body["data"])) == (200, {"a": 1})


async def test_a_call_that_the_server_may_have_done_is_not_made_again(start: Start) -> None:
    sandbox = await start(CODE)
    calls: list[Any] = []

    def answer_once(call: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        calls.append(call["arguments"])
        if len(calls) > 1:
            raise EOFError  # which hangs up
        return answer(call, values)

    async with mcp_server(sandbox, answering=answer_once) as endpoint:
        await sandbox.execute("echoes", mcp_endpoint=endpoint)
        _, body = await sandbox.execute("fails", mcp_endpoint=endpoint)
    assert (body["data"], calls) == (["MCP_UNREACHABLE", ANY], [{"a": 1}, {}])


async def test_a_component_is_invoked(start: Start) -> None:
    sandbox = await start(CODE)
    async with mcp_server(sandbox) as endpoint:
        _, body = await sandbox.execute("invokes", mcp_endpoint=endpoint)
    add = {"componentId": "add", "input": None}
    assert body["data"] == [{**add, "input": [1]}, {**add, "timeoutMs": 500}]


async def test_calls_side_by_side_get_their_own_answers(start: Start) -> None:
    sandbox = await start(CODE)
    async with mcp_server(sandbox) as endpoint:
        status, body = await sandbox.execute("side_by_side", mcp_endpoint=endpoint)
    assert (status, [json.loads(text) for text in body["data"]]) == (200, [{"a": n} for n in range(400)])


async def test_token_and_request_of_the_context_are_presented(start: Start) -> None:
    sandbox = await start(CODE)
    sent = ("Authorization: Bearer t-1", "X-Request-ID: r-1")
    async with mcp_server(sandbox, sent) as endpoint:
        status, body = await sandbox.execute(
            "echoes", request_id="r-1", mcp_endpoint=endpoint, mcp_token="t-1"
        )
        assert (status, json.loads(body["data"])) == (200, {"a": 1})
