"""Whatever a handler does, its caller gets a typed error, and the request beside it an answer."""

import asyncio

import pytest

from runner.conftest import Start

PYTHON = """
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

def rejects(input, context):
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

def starts_and_returns(input, context):
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

JAVASCRIPT = """
import { spawn } from "node:child_process";
import fs from "node:fs";
import { Worker } from "node:worker_threads";

const pause = (seconds) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000);

export const healthy = () => "well";

export function beside() {
  pause(0.3);
  return "unharmed";
}

export function raises() {
  return undefined.missing;
}

export function raises_later() {
  setTimeout(() => {
    throw new Error("nobody catches this");
  });
  return new Promise(() => {});
}

export const rejects = () => Promise.reject("no error");
export const exits = () => process.exit(7);
export const kills_itself = () => process.kill(process.pid, "SIGKILL");

export function kills_its_parent() {
  try {
    process.kill(process.ppid, "SIGKILL");
  } catch (error) {
    if (error.code === "EPERM") return "refused";
  }
}

export function hangs() {
  for (;;);
}

export const sleeps = () => pause(60);

export function swallows() {
  for (;;) {
    try {
      pause(60);
    } catch {}
  }
}

export function forgives() {
  pause(0.5);
  return "never happened";
}

export const awaits = () => new Promise((resolve) => setTimeout(resolve, 60_000));
export const never_settles = () => new Promise(() => {});
export const eats = () => new Uint8Array(2 ** 32 - 1).length;

export function hoards() {
  const held = [];
  for (;;) held.push(new Array(100_000).fill(1.5));
}

export const recurses = () => recurses() + 1;

export const bombs = () =>
  new Promise((_, reject) => {
    for (let number = 0; number < 500; number++) {
      spawn("sleep", ["30"], { stdio: "ignore" }).on("error", reject);
    }
  });

export const threads = () =>
  new Promise((_, reject) => {
    let isFull = false;
    const beginThread = () => {
      if (isFull) return;
      isFull = true;
      try {
        new Worker("setTimeout(() => {}, 30_000)", { eval: true });
      } catch (error) {
        reject(error);
        return;
      }
      fill(); // Something else has ended meanwhile.
    };
    // Up to the limit by processes, which need less memory; a thread is what goes beyond it.
    const fill = () => {
      isFull = false;
      for (let number = 0; number < 500; number++) {
        spawn("sleep", ["30"], { stdio: "ignore" }).on("error", beginThread);
      }
    };
    fill();
  });

export function leaves_threads() {
  new Worker("setTimeout(() => {}, 30_000)", { eval: true });
  return "gone";
}

export function starts_and_returns() {
  spawn("sleep", ["30"]);
  return "once";
}

export function chatters() {
  for (;;) fs.writeSync(1, "x".repeat(65536));
}

export const huge = () => "x".repeat(4 << 20);
export const unserialisable = () => ({ items: [1, { when: new Set() }] });
export const not_a_number = () => ({ ratio: NaN });
export const numbered_keys = () => new Map([[1, "one"]]);

export function circular() {
  const found = [];
  found.push(found);
  return found;
}

export const no_response = () => ({ status: 200 });

export function closes_everything() {
  for (let descriptor = 0; descriptor < 200; descriptor++) {
    try {
      fs.closeSync(descriptor);
    } catch {}
  }
  return "still";
}

export const reads_stdin = () => fs.readFileSync(0, "utf8") + "eof";
"""

CODE = {"python": PYTHON, "javascript": JAVASCRIPT}

FAILURES = {
    "raises": "HANDLER_EXCEPTION",
    "rejects": "HANDLER_EXCEPTION",
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
MORE_FAILURES = {
    "python": {},
    "javascript": {
        "raises_later": "HANDLER_EXCEPTION",
        "never_settles": "HANDLER_TIMEOUT",
        "hoards": "OUT_OF_MEMORY",
    },
}
"""What only one of the languages can do."""


async def test_each_failure_has_its_code_and_harms_nobody(start: Start) -> None:
    sandbox = await start(CODE)
    for function, code in (FAILURES | MORE_FAILURES[sandbox.language]).items():
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
        ("starts_and_returns", "once"),
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
    kind = {"python": "object", "javascript": "Set"}[sandbox.language]
    assert answer["details"].startswith(f"result.items[1].when: {kind} is not JSON")
