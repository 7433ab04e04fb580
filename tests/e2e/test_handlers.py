"""What user code can do, and what it can do wrong: each failure has its own error and harms nobody else."""

import json
import threading

import pytest

from e2e.platform_under_test import Platform, app_files
from support.waiting import wait_until

MODES = ("interpreter", "fork", "server")

HANDLER = """\
import os, sys, time
import uhlp_sdk


def fine(input, context):
    return {"fine": True}


def echo(input, context):
    return {"input": input, "context": context}


def raises(input, context):
    print("about to fail")
    raise ValueError("secret detail")


def hangs(input, context):
    while True:
        time.sleep(1)


def exits(input, context):
    os._exit(3)


def greedy(input, context):
    return len(bytearray(10**9))


def chatty(input, context):
    while True:
        print("x" * 1000)


def odd(input, context):
    return {"when": {1, 2}}


def bomb(input, context):
    while True:
        os.fork()


def refuses(input, context):
    raise uhlp_sdk.AppError("TOO_LATE", "the shop is closed", {"opens": "9:00"}, status=409)


def cookies(input, context):
    return {
        "statusCode": 201,
        "headers": {"Set-Cookie": ["a=1", "b=2"], "Content-Type": "text/plain", "X-One": "1"},
        "body": "made",
    }


def bytes_(input, context):
    return {"statusCode": 200, "headers": {"Content-Type": "image/png"}, "body": bytes(range(256))}
"""

FUNCTIONS = (
    "fine", "echo", "raises", "hangs", "exits", "greedy", "chatty", "odd", "bomb", "refuses",
    "cookies", "bytes_",
)  # fmt: skip

FAILURES = {
    "raises": (500, "HANDLER_EXCEPTION"),
    "hangs": (504, "HANDLER_TIMEOUT"),
    "exits": (500, "HANDLER_CRASHED"),
    "greedy": (500, "OUT_OF_MEMORY"),
    "chatty": (500, "OUTPUT_LIMIT_EXCEEDED"),
    "odd": (500, "RESULT_NOT_SERIALISABLE"),
    "bomb": (500, "PROCESS_LIMIT_EXCEEDED"),
}


@pytest.fixture(scope="module", params=MODES)
def app(request: pytest.FixtureRequest, platform: Platform) -> str:
    """An app with one route per function, in one execution mode."""
    mode: str = request.param
    name = f"modes-{mode}"
    routes = "".join(
        f"  - componentId: {function.strip('_')}\n    handlerType: JIT\n    targetPoolName: main\n"
        f"    taskDetails: {{script: _jit_code/all/v1/handler.py, function: {function}}}\n"
        f"    routeMatcher: {{pathPattern: '/{function.strip('_')}/:name', methods: [GET, POST]}}\n"
        for function in FUNCTIONS
    )
    files = app_files(
        name,
        "def handle(input, context):\n    return None\n",
        mode=mode,
        pool="      timeoutSeconds: 5\n      concurrency: 4\n      resourceLimits: {memoryLimit: 256M}\n",
        routes=routes,
    )
    platform.create(name, {**files, "state/_jit_code/all/v1/handler.py": HANDLER})
    return name


@pytest.mark.parametrize("function", FAILURES)
def test_a_failure_has_its_own_error_and_harms_no_other_request(
    platform: Platform, app: str, function: str
) -> None:
    healthy: list[int] = []
    stop = threading.Event()

    def ask_meanwhile() -> None:
        while not stop.is_set():
            healthy.append(platform.request("GET", "/fine/x", app=app).status)

    other = threading.Thread(target=ask_meanwhile)
    other.start()
    answer = platform.request("GET", f"/{function}/x", app=app)
    stop.set()
    other.join()
    assert (answer.status, answer.json["code"]) == FAILURES[function]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert b"secret detail" not in answer.body
    assert b"Traceback" not in answer.body
    assert set(healthy) == {200}
    assert platform.answer(app, "/fine/x") == {"fine": True}


def test_what_a_handler_prints_is_in_the_log_with_its_request(platform: Platform, app: str) -> None:
    answer = platform.request("GET", "/raises/x", app=app, headers={"X-Request-ID": f"find-me-{app}"})
    assert answer.headers["X-Request-ID"] == f"find-me-{app}"

    def lines() -> list[dict[str, str]]:
        done = platform.uhlp("logs", app, "--request", f"find-me-{app}", "--lines", "1000", "--json")
        return [json.loads(line) for line in done.out.splitlines()]

    def are_there() -> bool:
        text = "\n".join(line["message"] for line in lines())
        return "about to fail" in text and "ValueError: secret detail" in text

    wait_until(are_there, "what was printed and the error are in the log")
    assert {line["app"] for line in lines()} == {app}


def test_a_handler_gets_the_request_and_its_context(platform: Platform, app: str) -> None:
    answer = platform.request(
        "POST",
        "/echo/w%C3%B6rld%2Fx?one=1&two=2&two=3",
        app=app,
        body='{"a": [1]}',
        headers={"Content-Type": "application/json", "X-Request-ID": "abc", "X-Odd": "yes"},
    )
    got = answer.json["input"]
    http = got["httpDetails"]
    assert got["source"] == "http"
    assert (http["method"], http["path"]) == ("POST", "/echo/w%C3%B6rld%2Fx?one=1&two=2&two=3")
    assert (http["routePattern"], http["pathParameters"]) == ("/echo/:name", {"name": "wörld/x"})
    assert http["queryParameters"] == {"one": "1", "two": ["2", "3"]}
    assert (http["body"], http["bodyEncoding"], http["json"]) == ('{"a": [1]}', "utf8", {"a": [1]})
    assert {name.lower(): value for name, value in http["headers"].items()}["x-odd"] == "yes"
    context = answer.json["context"]
    assert (context["appId"], context["componentId"]) == (app, "echo")
    assert context["stateConfig"] == {
        "type": "mcp_tool",
        "readTool": "core.state.getDefinitionFileContent",
        "writeTool": "core.state.applyDefinitionDiff",
    }
    assert context["applicationInfo"] == {"deploymentMode": "production"}
    assert context["taskDetails"]["function"] == "echo"


def test_results_become_proper_responses(platform: Platform, app: str) -> None:
    made = platform.request("GET", "/cookies/x", app=app)
    assert (made.status, made.body, made.headers["Content-Type"]) == (201, b"made", "text/plain")
    assert made.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    raw = platform.request("GET", "/bytes/x", app=app)
    assert (raw.body, raw.headers["Content-Type"]) == (bytes(range(256)), "image/png")
    refused = platform.request("GET", "/refuses/x", app=app)
    assert (refused.status, refused.json["code"]) == (409, "TOO_LATE")
    assert refused.json["details"] == {"opens": "9:00"}
    head = platform.request("HEAD", "/cookies/x", app=app)
    assert (head.status, head.body, head.headers["Content-Length"]) == (201, b"", "4")
    assert platform.request("DELETE", "/cookies/x", app=app).headers["Allow"].replace(" ", "") in (
        "GET,HEAD,OPTIONS,POST",
        "GET,POST,HEAD,OPTIONS",
    )
