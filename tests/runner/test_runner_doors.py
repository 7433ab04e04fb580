"""The doors of a runner, the same in every mode and language: specification 2.4 and docs/architecture.md."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from runner.conftest import Start
from runner.sandbox import Sandbox, request
from support.waiting import eventually

PYTHON = """
import os, sys, subprocess, time
from uhlp_sdk import AppError, log

count = 0

def healthy(input, context):
    return "well"

def echo(input, context):
    return {"input": input, "app": context.get("appId")}

async def later(input, context):
    import asyncio
    await asyncio.sleep(0.01)
    return "later"

def responds(input, context):
    return {"statusCode": 201, "headers": {"X-A": "b", "Set-Cookie": ["c=1", "d=2"]}, "body": b"\\xff"}

def responds_json(input, context):
    return {"statusCode": 200, "json": {"ä": [1, None]}}

def refuses(input, context):
    raise AppError("SOLD_OUT", "none left", {"left": 0}, status=409)

def waits(input, context):
    time.sleep(30)

def until_told(input, context):
    while not os.path.exists(os.path.join(os.path.dirname(__file__), "told")):
        time.sleep(0.01)
    return "done"

def counts(input, context):
    global count
    count += 1
    return count

def talks(input, context):
    print("from print")
    os.write(2, b"from a descriptor\\n")
    subprocess.run(["echo", "from a subprocess"])
    log.warning("two\\nlines")

def leaves_children(input, context):
    subprocess.Popen(["sleep", "1234"], start_new_session=True)
    subprocess.Popen(["sh", "-c", "setsid sleep 1234 & exit"])
    return "left"
"""

JAVASCRIPT = """
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import { AppError, log } from "uhlp-sdk";

let count = 0;
const pause = (seconds) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000);

export const healthy = () => "well";
export const echo = (input, context) => ({ input, app: context.appId });

export async function later() {
  await new Promise((resolve) => setTimeout(resolve, 10));
  return "later";
}

export function responds() {
  const headers = { "X-A": "b", "Set-Cookie": ["c=1", "d=2"] };
  return { statusCode: 201, headers, body: new Uint8Array([255]) };
}

export const responds_json = () => ({ statusCode: 200, json: { "ä": [1, null] } });

export function refuses() {
  throw new AppError("SOLD_OUT", "none left", { left: 0 }, 409);
}

export const waits = () => pause(30);

export function until_told() {
  while (!fs.existsSync(new URL("told", import.meta.url))) pause(0.01);
  return "done";
}

export const counts = () => ++count;

export function talks() {
  console.log("from print");
  fs.writeSync(2, "from a descriptor\\n");
  execFileSync("echo", ["from a subprocess"], { stdio: "inherit" });
  log.warning("two\\nlines");
}

export function leaves_children() {
  spawn("sleep", ["1234"], { detached: true });
  spawn("sh", ["-c", "setsid sleep 1234 & exit"]);
  return "left";
}
"""

CODE = {"python": PYTHON, "javascript": JAVASCRIPT}

IMPORTS_NOTHING = {
    "python": "x = 1\nimport nothing_of_that_name\n",
    "javascript": 'const x = 1;\nimport "./nothing_of_that_name.js";\n',
}
NEVER_ENDS = {
    "python": "while True: pass\n",
    "javascript": "import { Worker } from 'node:worker_threads';\n"
    "new Worker('const end = Date.now() + 3000; while (Date.now() < end);', { eval: true });\nfor (;;);\n",
}
"""On two cores for a while, where a language can: the CPU's limit must not come before the timeout."""
DOES_NOT_PARSE = {"python": "x = 1\n\nx = = 2\n", "javascript": "let x = 1;\n\nx = = 2;\n"}
RAISES_WHEN_IMPORTED = {"python": "x = 1\nx.y\n", "javascript": "let x;\nx.y;\n"}
IMPORTS_ITS_NEIGHBOUR = {
    "python": ("def run(input, context):\n    import utils\n    return utils.name\n", "name = '%s'\n"),
    "javascript": (
        "export const run = async () => (await import('./utils.js')).name;\n",
        "export const name = '%s';\n",
    ),
}
"""A script, and the file beside it."""


async def test_a_generic_result(start: Start) -> None:
    sandbox = await start(CODE)
    body = json.dumps(request("echo", script=sandbox.script, request_id="abc-1", appId="shop")).encode()
    head = b"POST /execute HTTP/1.1\r\nX-Request-ID: abc-1\r\nContent-Length: %d\r\n\r\n" % len(body)
    status, headers, answer = await sandbox.raw(head + body)
    assert status == 200
    assert headers["x-request-id"] == "abc-1"
    assert headers["content-type"] == "application/json"
    assert answer["metrics"].pop("execution_time_ms") > 0
    assert answer == {
        "requestId": "abc-1",
        "resultType": "generic",
        "data": {"input": {"source": "http"}, "app": "shop"},
        "metrics": {"mcp_calls": []},
    }


async def test_responses(start: Start) -> None:
    sandbox = await start(CODE)
    _, answer = await sandbox.execute("responds")
    assert answer["resultType"] == "httpResponse"
    headers = {"X-A": "b", "Set-Cookie": ["c=1", "d=2"]}
    expected = {"statusCode": 201, "headers": headers, "body": "/w==", "bodyEncoding": "base64"}
    assert answer["data"] == expected
    _, answer = await sandbox.execute("responds_json")
    assert answer["data"]["headers"] == {"Content-Type": "application/json"}
    assert json.loads(answer["data"]["body"]) == {"ä": [1, None]}


async def test_an_application_error_is_a_result(start: Start) -> None:
    sandbox = await start(CODE)
    status, answer = await sandbox.execute("refuses")
    assert (status, answer["resultType"]) == (200, "error")
    expected = {"code": "SOLD_OUT", "message": "none left", "details": {"left": 0}, "statusCode": 409}
    assert answer["data"] == expected


async def test_an_asynchronous_handler(start: Start) -> None:
    sandbox = await start(CODE)
    status, answer = await sandbox.execute("later")
    assert (status, answer["data"]) == (200, "later")


TYPES = {
    "application/json": True,
    "application/problem+json; charset=utf-8": True,
    " Image/X+JSON ;v=1": True,
    "text/plain; x=application/json": False,
    "application/jsonl": False,
    "": False,
}
"""Content types, and whether the body is handed over parsed."""


def with_type(kind: str) -> dict[str, Any]:
    http = {"headers": {"content-type": kind}, "body": '{"a": [1]}'}
    return {"source": "http", "httpDetails": http}


async def test_the_parsed_body_is_handed_over(start: Start) -> None:
    sandbox = await start(CODE)
    for kind, parsed in TYPES.items():
        _, answer = await sandbox.execute("echo", data=with_type(kind))
        assert answer["data"]["input"]["httpDetails"].get("json") == ({"a": [1]} if parsed else None), kind


async def test_a_call_by_another_component_hands_over_what_that_one_gave(start: Start) -> None:
    sandbox = await start(CODE)
    for given in ({"a": 1}, [1], None):
        _, answer = await sandbox.execute(
            "echo", data={"source": "internal", "internalDetails": {"input": given}}
        )
        assert answer["data"]["input"] == given


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        json.dumps({**request("healthy"), "requestId": 'a"b'}).encode(),
        json.dumps({**request("healthy"), "requestData": {"source": "elsewhere"}}).encode(),
        json.dumps({**request("healthy"), "requestData": {"source": "internal"}}).encode(),
        json.dumps(request("healthy", timeoutMs=0)).encode(),
        json.dumps(request("healthy", timeoutMs=True)).encode(),
        json.dumps({**request("healthy"), "context": {"tree": "t1"}}).encode(),
    ],
)
async def test_a_bad_body(start: Start, body: bytes) -> None:
    sandbox = await start(CODE)
    for door in await lanes(sandbox):
        status, answer = await sandbox.ask("POST", "/execute", body, socket=door)
        assert (status, answer["error"]) == (400, "Bad Request")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /execute HTTP/1.1\r\n\r\n", 411),
        (b"POST /execute HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST /execute HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /execute HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /execute HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /nowhere HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 404),
    ],
)
async def test_a_bad_head(start: Start, head: bytes, status: int) -> None:
    sandbox = await start(CODE)
    for door in await lanes(sandbox):
        assert (await sandbox.raw(head, door))[0] == status


@pytest.mark.parametrize(
    ("tree", "script"),
    [("t1", "../../../{script}"), ("t1", "/etc/passwd"), ("../shop/t1", "{script}"), ("t2", "{script}")],
)
async def test_no_way_out_of_the_tree(start: Start, tree: str, script: str) -> None:
    sandbox = await start(CODE)
    script = script.format(script=sandbox.script)
    status, answer = await sandbox.execute("healthy", tree=tree, script=script)
    assert (status, answer["error"]) == (500, "HANDLER_NOT_FOUND")


async def test_a_revision_that_cannot_be_imported_is_refused(start: Start) -> None:
    sandbox = await start(CODE, timeout_seconds=5.0)
    sandbox.tree("t2", {sandbox.script: IMPORTS_NOTHING[sandbox.language]})
    status, answer = await sandbox.prepare("t2", sandbox.script, "healthy")
    assert (status, answer["error"]) == (422, "HANDLER_IMPORT_FAILED")
    [problem] = answer["details"]
    assert (problem["componentId"], problem["script"], problem["line"]) == ("healthy", sandbox.script, 2)
    assert "nothing_of_that_name" in problem["message"]
    sandbox.tree("t3", {sandbox.script: NEVER_ENDS[sandbox.language]})
    status, answer = await sandbox.prepare("t3", sandbox.script, "healthy")
    assert (status, "longer than 5 s" in answer["details"][0]["message"]) == (422, True)
    assert (await sandbox.ask("GET", "/readyz"))[1]["prepared"] == ["t1"]


async def test_a_mistake_in_the_code_is_told_with_its_line(start: Start) -> None:
    sandbox = await start(CODE)
    sandbox.tree("t2", {sandbox.script: DOES_NOT_PARSE[sandbox.language]})
    status, answer = await sandbox.prepare("t2", sandbox.script, "healthy")
    assert (status, answer["details"][0]["line"]) == (422, 3)
    assert answer["details"][0]["message"].startswith("SyntaxError: ")
    sandbox.tree("t3", {sandbox.script: RAISES_WHEN_IMPORTED[sandbox.language]})
    status, answer = await sandbox.prepare("t3", sandbox.script, "healthy")
    assert (status, answer["details"][0]["line"]) == (422, 2)
    status, answer = await sandbox.prepare("t1", sandbox.script, "absent")
    assert (status, answer["error"]) == (422, "HANDLER_IMPORT_FAILED")
    assert "no function 'absent'" in answer["details"][0]["message"]


async def test_scripts_and_revisions_do_not_see_each_others_modules(start: Start) -> None:
    sandbox = await start(CODE)
    main, utils = IMPORTS_ITS_NEIGHBOUR[sandbox.language]
    neighbour = "utils" + Path(sandbox.script).suffix
    for tree in ("t2", "t3"):
        for part in ("a", "b"):
            script = f"{part}/{sandbox.script}"
            sandbox.tree(tree, {script: main, f"{part}/{neighbour}": utils % (tree + part)})
            assert (await sandbox.prepare(tree, script, "run"))[0] == 200
    for _ in range(2):
        for tree in ("t2", "t3"):
            for part in ("a", "b"):
                _, answer = await sandbox.execute("run", tree=tree, script=f"{part}/{sandbox.script}")
                assert answer["data"] == tree + part
    assert not list((sandbox.home.trees / sandbox.app).rglob("*.pyc"))


async def test_state_is_fresh_but_in_server_mode(start: Start, mode: str) -> None:
    sandbox = await start(CODE, concurrency=1)
    counts = [(await sandbox.execute("counts"))[1]["data"] for _ in range(3)]
    assert counts == ([1, 2, 3] if mode == "server" else [1, 1, 1])


async def test_over_capacity(start: Start) -> None:
    sandbox = await start(CODE, concurrency=1)
    first = asyncio.create_task(sandbox.execute("until_told"))
    await active(sandbox, 1)
    assert (await sandbox.execute("healthy"))[0] == 429
    sandbox.tree("t1", {"told": ""})
    assert (await first)[1]["data"] == "done"
    assert (await sandbox.execute("healthy"))[0] == 200


async def test_drain_finishes_what_runs(start: Start) -> None:
    sandbox = await start(CODE)
    running = asyncio.create_task(sandbox.execute("until_told"))
    await active(sandbox, 1)
    assert (await sandbox.ask("POST", "/drain"))[0] == 200
    assert (await sandbox.ask("GET", "/readyz"))[0] == 503
    assert (await sandbox.execute("healthy"))[0] == 503
    sandbox.tree("t1", {"told": ""})
    assert (await running)[1]["data"] == "done"
    await sandbox.backend.wait(sandbox.instance)
    assert sandbox.instance.exit_reason == "exited with status 0"


async def test_cancel(start: Start) -> None:
    sandbox = await start(CODE)
    running = asyncio.create_task(sandbox.execute("waits", request_id="gone"))
    await active(sandbox, 1)
    assert (await sandbox.ask("POST", "/cancel", {"requestId": "other"}))[0] == 404
    assert (await sandbox.ask("POST", "/cancel", {"requestId": "gone"}))[0] == 200
    status, answer = await running
    assert (status, answer["error"]) == (500, "CANCELLED")


async def test_what_is_printed_is_logged_with_its_request(start: Start) -> None:
    sandbox = await start(CODE)
    await sandbox.execute("talks", request_id="loud")
    await sandbox.execute("healthy", request_id="quiet")
    await eventually(lambda: len(sandbox.lines(requestId="loud")) >= 4, "four lines")
    lines = {line["message"]: line for line in sandbox.lines(requestId="loud")}
    assert set(lines) == {"from print", "from a descriptor", "from a subprocess", "two\nlines"}
    assert {line["component"] for line in lines.values()} == {"talks"}
    assert {line["commit"] for line in lines.values()} == {"c" * 40}
    assert (lines["from print"]["stream"], lines["from print"]["level"]) == ("stdout", "info")
    assert (lines["from a descriptor"]["stream"], lines["from a descriptor"]["level"]) == ("stderr", "error")
    assert lines["two\nlines"]["level"] == "warning"
    assert not sandbox.lines(requestId="quiet")


async def test_nothing_of_a_request_outlives_it(start: Start) -> None:
    sandbox = await start(CODE)
    assert (await sandbox.execute("leaves_children"))[1]["data"] == "left"
    await eventually(lambda: not sleepers(sandbox), "the end of the left-over processes")


async def test_no_process_survives_its_runner(start: Start) -> None:
    sandbox = await start(CODE)
    running = asyncio.create_task(sandbox.execute("waits"))
    await active(sandbox, 1)
    os.kill(sandbox.instance.pid, signal.SIGKILL)
    with pytest.raises(asyncio.IncompleteReadError):
        await running
    await eventually(lambda: not sandbox.processes(), "the end of every process")


async def lanes(sandbox: Sandbox) -> list[str]:
    _, answer = await sandbox.ask("GET", "/readyz")
    return [lane["socket"] for lane in answer["lanes"]]


async def active(sandbox: Sandbox, count: int) -> None:
    """Wait until so many requests run."""

    async def are_active() -> bool:
        return bool((await sandbox.ask("GET", "/stats"))[1]["active"] == count)

    await eventually(are_active, f"{count} active requests")


def sleepers(sandbox: Sandbox) -> list[int]:
    found = []
    for pid in sandbox.processes():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"1234" in file.read():
                    found.append(pid)
        except OSError:
            continue
    return found
