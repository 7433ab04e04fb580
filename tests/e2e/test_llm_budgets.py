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


WHO = """
def handle(input, context):
    return context.get("userInfo")
"""

ASKING = """\
components:
  - componentId: ask
    handlerType: LLM
    targetPoolName: main
    taskDetails: {prompt_template: prompts/p.yaml}
    routeMatcher: {pathPattern: /ask, methods: [POST], permission: ask}
  - componentId: open
    handlerType: LLM
    targetPoolName: main
    taskDetails: {prompt_template: prompts/p.yaml}
    routeMatcher: {pathPattern: /open, methods: [POST]}
  - componentId: who
    handlerType: JIT
    targetPoolName: main
    taskDetails: {script: _jit_code/root/v1/handler.py, function: handle}
    routeMatcher: {pathPattern: /who, methods: [GET], permission: ask}
"""


def test_each_user_has_a_budget_and_only_a_credential_says_who_that_is(platform: Platform) -> None:
    permissions = ("--permission", "ask", "--permission", "mcp")
    ada = platform.uhlp("key", *permissions, "--user", "ada", "--json").json
    bob = platform.uhlp("key", *permissions, "--json").json
    files = {**app_files("users", WHO), **RULES}
    files["state/app_definition.yaml"] += scripted({"per": "user", "tokens": 1000})
    files["state/component_registry.yaml"] = ASKING
    files["state/prompts/p.yaml"] = "template: hi\n"
    files["state/tools/ask.yaml"] = "name: ask\ndescription: Asks.\ncomponent: ask\n"
    files["state/security_config.yaml"] = yaml.safe_dump({"apiKeys": [ada["entry"], bob["entry"]]})
    platform.create("users", files)

    def ask(path: str, key: str = "", **headers: str) -> int:
        sent = {"X-API-Key": key} if key else {}
        return platform.request("POST", path, app="users", headers={**sent, **headers}).status

    assert [ask("/ask", ada["key"]), ask("/ask", ada["key"])] == [200, 429]
    assert ask("/ask?user=carol", ada["key"], **{"X-User": "carol"}) == 429
    assert [ask("/open"), ask("/open")] == [200, 200]
    over = platform.tool("users", "app.ask", credential=ada["key"])
    assert over["content"][0]["text"].startswith("LLM_OVER_BUDGET: ")
    # The same purse, whether it is opened by HTTP or over MCP.
    assert platform.tool("users", "app.ask", credential=bob["key"])["isError"] is False
    assert ask("/ask", bob["key"]) == 429
    token = platform.uhlp("token", "users", "--user", "carol").out.strip()
    assert platform.tool("users", "app.ask", credential=token)["isError"] is False
    assert platform.tool("users", "app.ask", credential=token)["isError"] is True
    who = platform.request("GET", "/who", app="users", headers={"X-API-Key": ada["key"]})
    assert who.json == {"id": "ada", "isAuthenticated": True}
    used = platform.uhlp("llm", "usage", "users", "--json").json["usage"]
    users = {one["name"]: one["calls"] for one in used if one["kind"] == "user"}
    assert (len(users), users["ada"], users["carol"]) == (3, 1, 1)
