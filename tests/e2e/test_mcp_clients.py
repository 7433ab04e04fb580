"""The tools of the example `notes`, used by clients that others wrote: the SDK's, and the MCP inspector."""

import json

import pytest
import yaml
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from e2e.platform_under_test import ON_ONE_BACKEND, Platform
from mcp import Client
from support.node_programs import run

pytestmark = ON_ONE_BACKEND

APP = "notes"
TOOL = "app.add_note"
ALIAS = "app__add_note"


@pytest.fixture(scope="module")
def key(first: Platform) -> str:
    """An API key for the app's own tools, pushed to the example as docs/mcp.md says."""
    made = first.uhlp("key", "--permission", "mcp", "--json").json
    clone = first.new_clone(APP)
    clone.git("pull", "--quiet", "origin", "main")
    clone.deploy({"state/security_config.yaml": yaml.safe_dump({"apiKeys": [made["entry"]]})})
    return str(made["key"])


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_the_official_client_adds_a_note(first: Platform, key: str, mode: str) -> None:
    http = create_mcp_http_client(headers={"Authorization": f"Bearer {key}"})
    address = f"{first.state['mcp']}/{APP}"
    async with http, Client(streamable_http_client(address, http_client=http), mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [TOOL]
        made = (await client.call_tool(TOOL, {"title": "Milk", "text": mode})).structured_content
        assert made == first.answer(APP, f"/api/notes/{made['id']}")
        assert (made["title"], made["text"]) == ("Milk", mode)
        refused = await client.call_tool(TOOL, {"title": ""})
        assert refused.is_error
        assert refused.content[0].text.startswith("INVALID_ARGUMENTS: ")


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_the_inspector_lists_and_adds_a_note(first: Platform, key: str, era: str) -> None:
    address = f"{first.state['mcp']}/{APP}?names=safe"
    at = ["--cli", address, "--transport", "http", "--protocol-era", era]
    at += ["--header", f"Authorization: Bearer {key}"]
    listed = run("mcp-inspector", *at, "--method", "tools/list")
    assert listed.returncode == 0, listed.stderr
    assert [tool["name"] for tool in json.loads(listed.stdout)["tools"]] == [ALIAS]
    arguments = ["--tool-arg", "title=Bread", "--tool-arg", f"text={era}"]
    called = run("mcp-inspector", *at, "--method", "tools/call", "--tool-name", ALIAS, *arguments)
    assert called.returncode == 0, called.stderr
    made = json.loads(called.stdout)["structuredContent"]
    assert made == first.answer(APP, f"/api/notes/{made['id']}")
    assert (made["title"], made["text"]) == ("Bread", era)
