"""JSON-RPC and Streamable HTTP at a door (MCP revision 2025-11-25)."""

from typing import Any

import pytest

from support.mcp_office import Office


async def test_initialize_answers_revision_capabilities_and_name(office: Office) -> None:
    answer = await office.rpc("a0", "initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})
    result = answer["result"]
    assert result["protocolVersion"] == "2025-11-25"
    assert result["capabilities"] == {"tools": {"listChanged": False}}
    assert result["serverInfo"]["name"] == "uhlp"


async def test_an_unknown_revision_is_answered_with_the_latest(office: Office) -> None:
    answer = await office.rpc("a0", "initialize", {"protocolVersion": "1999-01-01"})
    assert answer["result"]["protocolVersion"] == "2025-11-25"


async def test_ping(office: Office) -> None:
    assert (await office.rpc("a0", "ping"))["result"] == {}


async def test_a_notification_gets_no_answer(office: Office) -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert await office.post("a0", message) == (202, None)


async def test_tools_list_names_every_tool_with_its_schemas(office: Office) -> None:
    tools = (await office.rpc("a0", "tools/list"))["result"]["tools"]
    assert [tool["name"] for tool in tools] == [
        "core.framework.getConfigValue",
        "core.framework.logFrameworkMessage",
        "core.llm.generate",
        "core.state.deleteRuntimeValue",
        "core.state.getDefinitionFileContent",
        "core.state.getRuntimeValue",
        "core.state.getStateValue",
        "core.state.incrementRuntimeValue",
        "core.state.listDefinitionDirectory",
        "core.state.setRuntimeValue",
    ]
    for tool in tools:
        assert tool["description"]
        assert tool["inputSchema"]["additionalProperties"] is False
        assert tool["outputSchema"]["type"] == "object"
        assert tool["annotations"]["readOnlyHint"] is (".get" in tool["name"] or ".list" in tool["name"])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"\xff", -32700),
        ([], -32600),
        ([{"jsonrpc": "2.0", "id": 1, "method": "ping"}], -32600),
        ({"id": 1, "method": "ping"}, -32600),
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": None, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": True, "method": "ping"}, -32600),
        ({"jsonrpc": "2.0", "id": 1}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, -32600),
    ],
)
async def test_what_is_no_request_is_refused(office: Office, body: Any, code: int) -> None:
    status, document = await office.post("a0", body)
    assert (status, document["id"], document["error"]["code"]) == (400, None, code)


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("resources/list", {}, -32601),
        ("tools/call", [], -32602),
        ("tools/call", {}, -32602),
        ("tools/call", {"name": 5}, -32602),
        ("tools/call", {"name": "core.state.getRuntimeValue", "arguments": []}, -32602),
        ("tools/call", {"name": "core.unknown"}, -32602),
        ("tools/list", {"cursor": "x"}, -32602),
        ("initialize", {}, -32602),
    ],
)
async def test_a_request_that_cannot_be_met(office: Office, method: str, params: Any, code: int) -> None:
    assert (await office.rpc("a0", method, params))["error"]["code"] == code


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"path": "/"}, 404),
        ({"path": "/mcp/"}, 404),
        ({"method": "GET"}, 405),
        ({"method": "DELETE"}, 405),
        ({"headers": {"MCP-Protocol-Version": "1999-01-01"}}, 400),
        ({"headers": {"Content-Type": "text/plain"}}, 415),
    ],
)
async def test_other_requests_are_refused(office: Office, more: dict[str, Any], status: int) -> None:
    found, document = await office.post("a0", {"jsonrpc": "2.0", "id": 1, "method": "ping"}, **more)
    assert found == status
    assert document["error"]["code"] == -32600


async def test_a_message_that_is_too_large_is_refused(office: Office) -> None:
    found, _ = await office.post("a0", b'"' + b"x" * (4 * 1024 * 1024) + b'"')
    assert found == 413
