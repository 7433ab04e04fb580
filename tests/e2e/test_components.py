"""Components that call each other, and the app's own MCP tools, through the whole platform."""

import pytest

from e2e.platform_under_test import Clone, Platform, app_files
from support.waiting import wait_until

HANDLER = """\
from uhlp_sdk import AppError, ToolError, call_tool, invoke


def handle(input, context):
    return {"sum": invoke("add", {"numbers": [1, 2, 3]}), "id": context["requestId"]}


def add(input, context):
    if not input["numbers"]:
        raise AppError("NOTHING_TO_ADD", "give numbers", {"least": 1})
    return {"total": sum(input["numbers"]), "depth": context.get("depth", 0)}


def loop(input, context):
    return invoke("loop", None)


def told(input, context):
    try:
        invoke(input["httpDetails"]["pathParameters"]["name"], {"numbers": []})
    except ToolError as error:
        return {"code": error.code, "message": error.message}


def improve(input, context):
    return call_tool("core.state.setDefinitionFileContent", {
        "filePath": "ui/index.html", "content": "<p>better", "commitMessage": "Say better",
    })
"""


def component(name: str, route: str = "") -> str:
    return (
        f"  - componentId: {name}\n    handlerType: JIT\n    targetPoolName: main\n"
        f"    taskDetails: {{script: _jit_code/root/v1/handler.py, function: {name}}}\n"
        + (f"    routeMatcher: {{pathPattern: {route}, methods: [GET, POST]}}\n" if route else "")
    )


ROUTES = (
    component("add")
    + component("loop", "/loop")
    + component("told", "'/told/:name'")
    + component("improve", "/improve")
)
TOOL = """\
name: add
description: Adds numbers.
component: add
inputSchema:
  type: object
  properties: {numbers: {type: array, items: {type: number}}}
  required: [numbers]
"""


@pytest.fixture(scope="module")
def clone(platform: Platform) -> Clone:
    pool = "      concurrency: 10\n      queueTimeoutSeconds: 1\n"
    files = app_files("sums", HANDLER, pool=pool, routes=ROUTES)
    return platform.create("sums", {**files, "state/tools/add.yaml": TOOL})


def test_a_component_calls_another_one_and_its_errors_are_typed(platform: Platform, clone: Clone) -> None:
    found = platform.answer("sums")
    assert found["sum"] == {"total": 6, "depth": 1}
    told = platform.answer("sums", "/told/add")
    assert told["code"] == "NOTHING_TO_ADD"
    assert told["message"] == 'core.component.invoke: give numbers (details: {"least":1})'
    assert platform.answer("sums", "/told/subtract")["code"] == "COMPONENT_NOT_FOUND"

    def logged() -> bool:
        logs = platform.uhlp("logs", "sums", "--request", found["id"], "--json").out
        return "GET / 200" in logs and "INVOKE add 200" in logs

    wait_until(logged, "a request's log holds the calls that it caused")


def test_a_loop_ends_with_its_reason(platform: Platform, clone: Clone) -> None:
    answer = platform.request("GET", "/loop", app="sums")
    assert (answer.status, answer.json["code"]) == (500, "HANDLER_EXCEPTION")
    wait_until(
        lambda: "INVOKE_TOO_DEEP" in platform.uhlp("logs", "sums", "--lines", "1000").out, "the log says why"
    )


def test_an_app_is_an_mcp_server(platform: Platform, clone: Clone) -> None:
    assert platform.tool("sums", "app.add", numbers=[1, 2])["structuredContent"] == {"total": 3, "depth": 1}
    refused = platform.tool("sums", "app.add", numbers="x")
    assert refused["isError"] and refused["content"][0]["text"].startswith("INVALID_ARGUMENTS: ")
    clone.deploy({"state/tools/add.yaml": TOOL.replace("name: add", "name: plus")})
    assert platform.tool("sums", "app.plus", numbers=[])["content"][0]["text"].startswith("NOTHING_TO_ADD: ")


def test_what_a_component_changes_is_a_proposal_to_try(platform: Platform, clone: Clone) -> None:
    assert platform.request("GET", "/improve", app="sums").status == 500
    definition = (clone.folder / "state/app_definition.yaml").read_text()
    clone.deploy({"state/app_definition.yaml": f"{definition}definitionWrites: propose\n"})
    made = platform.answer("sums", "/improve")
    assert made["branch"] == "proposals/improve/1"
    preview = "proposals-improve-1--sums"
    wait_until(
        lambda: platform.request("GET", "/index.html", app=preview).body == b"<p>better",
        "the proposal is served",
    )
    assert platform.request("GET", "/index.html", app="sums").status == 404
    clone.git("fetch", "--quiet", "origin")
    author = clone.git("log", "-1", "--format=%an", "origin/proposals/improve/1").out.strip()
    assert author == "sums/improve"
