"""Schemas that take for ever to check: they end as an error of their own app, and hold no other up."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from gateway.far_end import Sandbox, generic
from gateway.stage import Stage, route
from support.check_limits import limit_jobs
from support.waiting import eventually
from uhlp_gateway import schemas

PATTERN = {"pattern": "^(a+)+$"}
"""Backtracks: each character doubles the time."""

LEVELS = 40
BRANCHES = {
    "$defs": {
        **{f"n{level}": {"allOf": [{"$ref": f"#/$defs/n{level + 1}"}] * 2} for level in range(LEVELS)},
        f"n{LEVELS}": {"type": "string"},
    },
    "$ref": "#/$defs/n0",
}
"""Refers to its end 2**40 times."""

VALUE = "a" * 64 + "!"

PLAIN = {"type": "object", "properties": {"n": {"type": "integer"}}}

LONG = 600.0
"""Seconds for a check: nothing ends it but the test."""


@pytest.mark.parametrize(
    ("component", "schema", "status", "code"),
    [
        ({"requestSchema": "s.json"}, PATTERN, 422, "REQUEST_SCHEMA_VIOLATION"),
        ({"responseSchema": "s.json"}, BRANCHES, 502, "RESPONSE_SCHEMA_VIOLATION"),
    ],
)
async def test_a_check_without_end_holds_up_no_other_app(
    stage: Stage,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    component: dict[str, str],
    schema: dict[str, Any],
    status: int,
    code: str,
) -> None:
    processes = limit_jobs(monkeypatch, LONG)
    await stage.publish(
        [route("/", "POST", **component)], sandbox.lanes, deployment="evil", schemas={"s.json": schema}
    )
    await stage.publish(
        [route("/", "POST", requestSchema="s.json", responseSchema="s.json")],
        sandbox.lanes,
        schemas={"s.json": PLAIN},
    )
    sandbox.script = lambda request: generic(VALUE if request["context"]["appId"] == "evil" else {"n": 1})
    body = f'"{VALUE}"'.encode()
    evil = [asyncio.create_task(stage.ask("POST", "/", body=body, host="evil.localhost")) for _ in range(2)]
    await eventually(lambda: processes, "the check begins")
    assert (await stage.ask("POST", "/", body=b'{"n": 1}')).json() == {"n": 1}
    broken = await stage.ask("POST", "/", body=b'{"n": "x"}')
    assert broken.json()["errors"] == [{"pointer": "/n", "detail": "'x' is not of type 'integer'"}]
    assert [request.done() for request in evil] == [False, False]
    taken, free = processes  # The app's two requests have one, in turn; the other is for everybody else.
    taken.send_signal(signal.SIGALRM)  # as the kernel does when the time is over
    await asyncio.wait(evil, return_when=asyncio.FIRST_COMPLETED)
    free.send_signal(signal.SIGALRM)
    for answer in await asyncio.gather(*evil):
        assert (answer.status, answer.json()["code"]) == (status, code)
        if code == "REQUEST_SCHEMA_VIOLATION":
            (told,) = answer.json()["errors"]
            assert told["detail"].startswith("it could not be held against its schema in time")


async def test_a_document_nested_too_deep_for_the_check_is_refused(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish(
        [route("/", "POST", requestSchema="s.json")], sandbox.lanes, schemas={"s.json": PATTERN}
    )
    answer = await stage.ask("POST", "/", body=b"[" * 1000 + b"]" * 1000)
    assert (answer.status, answer.json()["code"]) == (422, "REQUEST_SCHEMA_VIOLATION")
    assert answer.json()["errors"] == [{"pointer": "", "detail": "the document is nested too deeply"}]


_KILLED = f"""
import asyncio
from uhlp_state.json_schema.check_pool import CheckPool

async def main():
    await CheckPool({schemas.PROGRAM!r}).run("a", "violations", document=1, schema="{{}}")
    print("checked", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_processes_end_with_a_gateway_that_is_killed() -> None:
    gateway = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, stdout=PIPE, stderr=PIPE)
    assert gateway.stdout is not None and gateway.stderr is not None
    assert await gateway.stdout.readline() == b"checked\n"
    gateway.kill()
    await gateway.wait()
    # Its processes have the same standard error, which comes to its end when the last of them does.
    assert await gateway.stderr.read() == b""
