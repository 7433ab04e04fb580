"""Whatever a handler does, its caller gets a typed error, and the request beside it an answer."""

import asyncio

import pytest

from runner.conftest import Start

CODE = """
import os, signal, sys, threading, time, subprocess

def healthy(input, context):
    return "well"

def beside(input, context):
    time.sleep(0.3)
    return "unharmed"

def raises(input, context):
    raise KeyError("missing")

def exits(input, context):
    os._exit(7)

def leaves(input, context):
    sys.exit(3)

def kills_itself(input, context):
    os.kill(os.getpid(), signal.SIGKILL)

def kills_its_parent(input, context):
    try:
        os.kill(os.getppid(), signal.SIGKILL)
    except PermissionError:
        return "refused"

def hangs(input, context):
    while True:
        pass

def sleeps(input, context):
    time.sleep(60)

def swallows(input, context):
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def forgives(input, context):
    try:
        time.sleep(60)
    except BaseException:
        return "never happened"

async def awaits(input, context):
    import asyncio
    await asyncio.sleep(60)

def eats(input, context):
    return len(bytearray(4 << 30))

def recurses(input, context):
    return recurses(input, context)

def bombs(input, context):
    for _ in range(500):
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)

def threads(input, context):
    for _ in range(500):
        threading.Thread(target=time.sleep, args=(30,)).start()

def leaves_threads(input, context):
    threading.Thread(target=time.sleep, args=(30,)).start()
    return "gone"

def forks_and_returns(input, context):
    os.fork()
    return "once"

def chatters(input, context):
    while True:
        os.write(1, b"x" * 65536)

def huge(input, context):
    return "x" * (4 << 20)

def unserialisable(input, context):
    return {"items": [1, {"when": object()}]}

def not_a_number(input, context):
    return {"ratio": float("nan")}

def numbered_keys(input, context):
    return {1: "one"}

def circular(input, context):
    found = []
    found.append(found)
    return found

def no_response(input, context):
    return {"status": 200}

def closes_everything(input, context):
    os.closerange(0, 200)
    return "still"

def reads_stdin(input, context):
    return sys.stdin.read() + "eof"
"""

FAILURES = {
    "raises": "HANDLER_EXCEPTION",
    "leaves": "HANDLER_EXCEPTION",
    "recurses": "HANDLER_EXCEPTION",
    "exits": "HANDLER_CRASHED",
    "kills_itself": "HANDLER_CRASHED",
    "closes_everything": "HANDLER_CRASHED",
    "hangs": "HANDLER_TIMEOUT",
    "sleeps": "HANDLER_TIMEOUT",
    "swallows": "HANDLER_TIMEOUT",
    "forgives": "HANDLER_TIMEOUT",
    "awaits": "HANDLER_TIMEOUT",
    "eats": "OUT_OF_MEMORY",
    "bombs": "PROCESS_LIMIT_EXCEEDED",
    "threads": "PROCESS_LIMIT_EXCEEDED",
    "chatters": "OUTPUT_LIMIT_EXCEEDED",
    "huge": "OUTPUT_LIMIT_EXCEEDED",
    "unserialisable": "RESULT_NOT_SERIALISABLE",
    "not_a_number": "RESULT_NOT_SERIALISABLE",
    "numbered_keys": "RESULT_NOT_SERIALISABLE",
    "circular": "RESULT_NOT_SERIALISABLE",
    "absent": "HANDLER_NOT_FOUND",
}


async def test_each_failure_has_its_code_and_harms_nobody(start: Start) -> None:
    sandbox = await start(CODE)
    for function, code in FAILURES.items():
        beside = asyncio.create_task(sandbox.execute("beside"))
        status, answer = await sandbox.execute(function, timeoutMs=400 if code == "HANDLER_TIMEOUT" else 4000)
        assert (status, answer["error"]) == (500, code), (function, answer)
        assert answer["resultType"] == "error"
        assert answer["data"]["code"] == code
        status, answer = await beside
        assert (status, answer.get("data")) == (200, "unharmed"), (function, answer)


@pytest.mark.parametrize(
    ("function", "result"),
    [
        ("leaves_threads", "gone"),
        ("forks_and_returns", "once"),
        ("reads_stdin", "eof"),
        ("kills_its_parent", "refused"),
    ],
)
async def test_what_is_no_failure(start: Start, function: str, result: str) -> None:
    sandbox = await start(CODE)
    status, answer = await sandbox.execute(function)
    assert (status, answer["data"]) == (200, result)
    status, answer = await sandbox.execute("healthy")
    assert (status, answer["data"]) == (200, "well")


async def test_a_response_was_demanded(start: Start) -> None:
    sandbox = await start(CODE)
    status, answer = await sandbox.execute("no_response", expectedResultFormat="httpResponse")
    assert (status, answer["error"]) == (500, "RESULT_FORMAT_MISMATCH")


async def test_the_path_to_what_is_not_json_is_named(start: Start) -> None:
    sandbox = await start(CODE)
    _, answer = await sandbox.execute("unserialisable")
    assert answer["details"].startswith("result.items[1].when: object is not JSON")
