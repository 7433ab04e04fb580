"""A running app's tools, used by clients that others wrote: the official SDK's, and the MCP inspector."""

import json

import pytest
import yaml
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from e2e.platform_under_test import ON_ONE_BACKEND, Platform, app_files
from mcp import Client
from support.node_programs import run

pytestmark = ON_ONE_BACKEND

APP = "counter"
HANDLER = """
from uhlp_sdk import ToolError, call_tool, state

def handle(input, context):
    try:
        call_tool("core.framework.getConfigValue", {"key": "k", "componentId": "none"})
    except ToolError as error:
        return {"count": state.increment("count"), "code": error.code}
"""


@pytest.fixture(scope="module")
def key(platform: Platform) -> str:
    made = platform.uhlp("key", "--permission", "mcp:core.state.*", "--json").json
    files = app_files(APP, HANDLER) | {
        "state/security_config.yaml": yaml.safe_dump({"apiKeys": [made["entry"]]})
    }
    platform.create(APP, files)
    return str(made["key"])


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_the_official_client_reads_what_a_handler_wrote(
    platform: Platform, key: str, mode: str
) -> None:
    counted = platform.answer(APP)
    assert counted["code"] == "NOT_FOUND"
    http = create_mcp_http_client(headers={"Authorization": f"Bearer {key}"})
    async with (
        http,
        Client(
            streamable_http_client(f"{platform.state['mcp']}/{APP}", http_client=http), mode=mode
        ) as client,
    ):
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert "core.state.getRuntimeValue" in names
        assert not [name for name in names if not name.startswith("core.state.")]
        result = await client.call_tool("core.state.getRuntimeValue", {"key": "count"})
        assert result.structured_content == {"found": True, "value": counted["count"]}
        refused = await client.call_tool("core.state.getRuntimeValue", {"key": ""})
        assert refused.is_error


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_the_inspector_lists_and_calls(platform: Platform, key: str, era: str) -> None:
    count = platform.answer(APP)["count"]
    at = ["--cli", f"{platform.state['mcp']}/{APP}?names=safe", "--transport", "http", "--protocol-era", era]
    at += ["--header", f"Authorization: Bearer {key}"]
    listed = run("mcp-inspector", *at, "--method", "tools/list")
    assert listed.returncode == 0, listed.stderr
    assert "core__state__getRuntimeValue" in [tool["name"] for tool in json.loads(listed.stdout)["tools"]]
    call = [
        "--method",
        "tools/call",
        "--tool-name",
        "core__state__getRuntimeValue",
        "--tool-arg",
        "key=count",
    ]
    called = run("mcp-inspector", *at, *call)
    assert called.returncode == 0, called.stderr
    assert json.loads(called.stdout)["structuredContent"] == {"found": True, "value": count}
