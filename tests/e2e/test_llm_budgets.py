"""Budgets of a running app: nobody passes by one, and nobody is kept out by what others have used."""

import pytest
import yaml

from e2e.platform_under_test import ON_ONE_BACKEND, Platform, app_files

pytestmark = ON_ONE_BACKEND

SECRETIVE = """
import http.client
import json
import socket

from uhlp_sdk import ToolError, call_tool


def handle(input, context):
    if "/open" not in input["httpDetails"]["path"]:
        return told(without_token(context["mcp_endpoint"]))
    try:
        return call_tool("core.llm.generate", {"prompt": "hi"})["completion"]
    except ToolError as error:
        return error.code


def without_token(endpoint):
    call = {"name": "core.llm.generate", "arguments": {"prompt": "hi"}}
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/" + endpoint.removeprefix("unix:").lstrip("/"))
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call})
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    connection.request("POST", "/mcp", body=body, headers=headers)
    return json.loads(connection.getresponse().read())["result"]


def told(result):
    return result["content"][0]["text"]
"""

OPEN_ROUTE = (
    "  - componentId: open\n    handlerType: JIT\n    targetPoolName: main\n"
    "    taskDetails: {script: _jit_code/root/v1/handler.py, function: handle}\n"
    "    routeMatcher: {pathPattern: /open, methods: [GET]}\n"
)


def scripted(*budgets: dict[str, object]) -> str:
    """An `llm` whose answers use 900 tokens each, within these budgets."""
    provider = {"type": "scripted", "file": "llm/rules.yaml"}
    llm = {"providers": {"script": provider}, "model": "script/any", "maxOutputTokens": 100}
    return yaml.safe_dump({"llm": {**llm, "budgets": list(budgets)}})


RULES = {"state/llm/rules.yaml": "rules: [{replies: [{text: hello, inputTokens: 800, outputTokens: 100}]}]\n"}


@pytest.mark.parametrize("per", ["component", "user"])
def test_a_handler_that_hides_who_it_is_passes_by_no_budget(platform: Platform, per: str) -> None:
    app = f"hides-{per}"
    files = {**app_files(app, SECRETIVE, routes=OPEN_ROUTE), **RULES}
    files["state/app_definition.yaml"] += scripted({"per": per, "tokens": 1000})
    platform.create(app, files)
    assert platform.answer(app).startswith(f"LLM_BAD_REQUEST: this app has a budget per {per}")
    assert platform.answer(app, "/open") == "hello"
    # A visitor whom nobody knows is no user; what the component may use holds for all of them together.
    assert platform.answer(app, "/open") == ("LLM_OVER_BUDGET" if per == "component" else "hello")
    assert platform.answer(app).startswith("LLM_BAD_REQUEST: ")
