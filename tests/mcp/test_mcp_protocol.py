"""The protocol at a sandbox's door: what is answered here, and what the SDK behind it answers."""

from typing import Any

import orjson
import pytest

from support.masking_guard import MaskingGuard
from support.mcp_office import Office, stateless
from uhlp_core.errors import UhlpError
from uhlp_mcp import protocol
from uhlp_mcp.schema import of
from uhlp_mcp.tools import Blocks, Caller, Tool, Toolbox, safe_name

GET = "core.state.getRuntimeValue"


async def listed(office: Office) -> list[str]:
    """The names of all tools."""
    return [tool["name"] for tool in (await office.rpc("a0", "tools/list"))["result"]["tools"]]


async def test_initialize_answers_revision_capabilities_and_name(office: Office) -> None:
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    result = (await office.rpc("a0", "initialize", params))["result"]
    assert result["protocolVersion"] == "2025-11-25"
    assert result["capabilities"] == {"tools": {"listChanged": False}}
    assert result["serverInfo"]["name"] == "uhlp"
    unknown = (await office.rpc("a0", "initialize", params | {"protocolVersion": "1999-01-01"}))["result"]
    assert unknown["protocolVersion"] == "2025-11-25"
    assert (await office.rpc("a0", "ping"))["result"] == {}
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert await office.post("a0", notification) == (202, None)


async def called(toolbox: Toolbox, tool: Tool) -> protocol.Answer:
    """What a plain call of the tool is answered."""
    params = {"name": tool.name, "arguments": {}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    request = protocol.read(orjson.dumps(body))
    assert request is not None
    return await protocol.answer(toolbox, Caller("alpha", "alpha"), request, stateless=False)


async def test_a_result_that_is_no_json_is_a_clear_error() -> None:
    async def handler(caller: Caller, given: dict[str, Any]) -> Blocks:
        return Blocks([], {"n": 10**30})

    tool = Tool("app.huge", "Tells a number.", of({}), None, handler)
    answer = await called(Toolbox.of([tool]), tool)
    assert answer.status == 200
    assert orjson.loads(answer.body)["error"] == {
        "code": -32603,
        "message": "the result of app.huge cannot be written as JSON: Integer exceeds 64-bit range",
    }


async def test_a_result_nested_deeper_than_is_written_is_an_error_with_a_code() -> None:
    nested: list[Any] = []
    for _ in range(300):
        nested = [nested]

    async def handler(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return {"value": nested}

    tool = Tool("app.deep", "Nests.", of({}), None, handler)
    answer = await called(Toolbox.of([tool]), tool)
    result = orjson.loads(answer.body)["result"]
    assert result["isError"] is True
    assert result["_meta"] == {"uhlp/error": {"code": "INVALID_OUTPUT"}}
    assert result["content"][0]["text"] == (
        "INVALID_OUTPUT: the result of app.deep cannot be written as JSON: Recursion limit reached"
    )


async def test_the_stateless_revision_is_discovered(office: Office) -> None:
    status, document = await office.post("a0", **stateless("server/discover"))
    assert status == 200
    assert document["result"]["supportedVersions"] == ["2026-07-28"]
    assert document["result"]["capabilities"] == {"tools": {"listChanged": False}}
    assert document["result"]["resultType"] == "complete"


async def test_tools_list_names_every_tool_with_its_schemas(office: Office) -> None:
    tools = (await office.rpc("a0", "tools/list"))["result"]["tools"]
    names = [tool["name"] for tool in tools]
    assert names == sorted(set(names))
    assert {GET, "core.state.setRuntimeValue", "core.framework.logFrameworkMessage"} < set(names)
    for tool in tools:
        assert tool["description"]
        assert tool["inputSchema"]["type"] == tool["outputSchema"]["type"] == "object"
    hints = {tool["name"]: tool["annotations"]["readOnlyHint"] for tool in tools}
    assert (hints[GET], hints["core.state.setRuntimeValue"]) == (True, False)


async def test_the_stateless_revision_adds_its_envelope(office: Office) -> None:
    status, document = await office.post("a0", **stateless("tools/list"))
    result = document["result"]
    assert (status, document["id"]) == (200, "x")
    assert [tool["name"] for tool in result["tools"]] == await listed(office)
    assert (result["resultType"], result["ttlMs"], result["cacheScope"]) == ("complete", 5000, "private")
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "uhlp"
    status, document = await office.post("a0", **stateless("tools/call", GET, arguments={"key": "k"}))
    assert (status, document["result"]["structuredContent"]) == (200, {"found": False})
    assert document["result"]["resultType"] == "complete"


async def test_safe_names_are_listed_on_request_and_always_called(office: Office) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    _, document = await office.post("a0", message, path="/mcp?client=a&names=safe&x=y")
    names = [tool["name"] for tool in document["result"]["tools"]]
    assert names == [safe_name(name) for name in await listed(office)]
    old = {"MCP-Protocol-Version": "2024-11-05"}
    assert (await office.post("a0", message, path="/mcp?names=safe", headers=old))[1]["result"]["tools"][0][
        "name"
    ] == names[0]
    assert await office.call("a0", "core__state__getRuntimeValue", key="k") == {"found": False}


async def test_the_sdk_gives_the_same_answers(office: Office) -> None:
    """A revision that is older than what is answered here."""
    old = {"MCP-Protocol-Version": "2024-11-05"}
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call"}
    for params in ({"name": GET, "arguments": {"key": "k"}}, {"name": GET, "arguments": {}}):
        _, here = await office.post("a0", call | {"params": params})
        _, there = await office.post("a0", call | {"params": params}, headers=old)
        assert there["result"]["content"] == here["result"]["content"]
        assert there["result"]["isError"] is here["result"]["isError"]
    for name, remedy in (
        ("core.state.getRuntimeValues", f"did you mean '{GET}'?"),
        ("nothing like it", "tools/list names them all"),
    ):
        error = {
            "code": -32602,
            "message": f"there is no tool named {name!r}; {remedy}",
            "data": {"code": "UNKNOWN_TOOL"},
        }
        assert (await office.post("a0", call | {"params": {"name": name}}))[1]["error"] == error
        assert (await office.post("a0", call | {"params": {"name": name}}, headers=old))[1]["error"] == error
    _, there = await office.post("a0", {"jsonrpc": "2.0", "id": 7, "method": "tools/list"}, headers=old)
    assert [tool["name"] for tool in there["result"]["tools"]] == await listed(office)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Mcp-Name": "core.state.setRuntimeValue"}, -32020),
        ({"Mcp-Name": None}, -32020),
        ({"Mcp-Name": "=?base64?%%%?="}, -32020),
        ({"Mcp-Method": "tools/list"}, -32020),
        ({"Mcp-Method": None}, -32020),
        ({"MCP-Protocol-Version": "2027-01-01"}, -32020),
    ],
)
async def test_headers_that_differ_from_the_body_are_refused(
    office: Office, change: dict[str, str | None], code: int
) -> None:
    request = stateless("tools/call", GET, arguments={"key": "k"})
    headers = {name: value for name, value in (request["headers"] | change).items() if value is not None}
    status, document = await office.post("a0", request["body"], headers=headers)
    assert (status, document["error"]["code"]) == (400, code)


async def test_a_header_may_be_wrapped_but_not_come_twice(office: Office) -> None:
    request = stateless("tools/call", GET, arguments={"key": "k"})
    wrapped = request["headers"] | {"Mcp-Name": "=?base64?Y29yZS5zdGF0ZS5nZXRSdW50aW1lVmFsdWU=?="}
    assert (await office.post("a0", request["body"], headers=wrapped))[0] == 200
    twice = [*request["headers"].items(), ("Mcp-Name", GET)]
    status, document = await office.post("a0", request["body"], headers=twice)
    assert (status, document["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize(
    "missing",
    ["io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"],
)
async def test_an_envelope_without_its_parts_is_refused(office: Office, missing: str) -> None:
    request = stateless("tools/list")
    del request["body"]["params"]["_meta"][missing]
    status, document = await office.post("a0", **request)
    assert (status, document["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        [],
        [{"jsonrpc": "2.0", "id": 1, "method": "ping"}],
        {"id": 1, "method": "ping"},
        {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
    ],
)
async def test_what_is_no_request_is_refused(office: Office, body: Any) -> None:
    status, document = await office.post("a0", body)
    assert (status, document["error"]["code"]) in ((400, -32700), (400, -32600), (400, -32602))


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("resources/list", {}, -32601),
        ("tools/call", {}, -32602),
        ("tools/call", {"name": 5}, -32602),
        ("tools/call", {"name": GET, "arguments": []}, -32602),
        ("tools/call", {"name": "core.unknown"}, -32602),
        ("tools/list", {"cursor": "x"}, -32602),
        ("initialize", {}, -32602),
    ],
)
async def test_a_request_that_cannot_be_met(office: Office, method: str, params: Any, code: int) -> None:
    assert (await office.rpc("a0", method, params))["error"]["code"] == code
    name = params.get("name", "") if isinstance(params.get("name", ""), str) else ""
    if method == "tools/list" or name:  # the stateless revision gives the refusal a status as well
        request = stateless(method, **params)
        assert (await office.post("a0", **request))[0] == 400


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"path": "/"}, 404),
        ({"path": "/mcp/"}, 404),
        ({"method": "GET"}, 405),
        ({"method": "DELETE"}, 405),
        ({"headers": {"MCP-Protocol-Version": "1999-01-01"}}, 400),
        ({"headers": {"Accept": "text/html"}}, 406),
    ],
)
async def test_other_requests_are_refused(office: Office, more: dict[str, Any], status: int) -> None:
    found, _ = await office.post("a0", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, **more)
    assert found == status


async def test_a_message_that_is_too_large_is_refused(office: Office) -> None:
    found, _ = await office.post("a0", b'"' + b"x" * (4 * 1024 * 1024) + b'"')
    assert found == 413


@pytest.mark.parametrize(
    ("code", "text", "told"),
    [
        ("GONE", "it was hidden here", "GONE: it was *** here"),
        ("hidden", "no", "TOOL_FAILED: no"),
        ("GONE", "no", "GONE: no"),
    ],
)
async def test_a_guard_looks_through_errors_and_their_codes(code: str, text: str, told: str) -> None:
    async def fails(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        error = UhlpError(text, code=code)
        error.retry_after = 3
        raise error

    tool = Tool("app.fails", "Fails.", {"type": "object"}, None, fails)
    result = orjson.loads((await called(Toolbox.of([tool], guard=MaskingGuard()), tool)).body)["result"]
    assert (result["isError"], result["content"][0]["text"]) == (True, told)
    assert result["_meta"]["uhlp/error"] == {"code": told.partition(":")[0], "retryAfter": 3}
