"""A handler that attacks: what it must not reach, tried from the inside. Needs root, as the daemon does."""

import os
import socket
from pathlib import Path

import pytest

from runner.conftest import Start

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an app gets a user of its own only from root")

PYTHON = """
import ctypes, os, signal, socket, subprocess

libc = ctypes.CDLL(None, use_errno=True)

def healthy(input, context):
    return "well"

def attempt(action):
    try:
        action()
    except OSError as error:
        return "refused"
    return "done"

def reads(input, context):
    return attempt(lambda: open(input["path"], "rb").read(1))

def lists(input, context):
    return attempt(lambda: os.listdir(input["path"]))

def writes(input, context):
    return attempt(lambda: open(input["path"], "w").close())

def removes(input, context):
    return attempt(lambda: os.unlink(input["path"]))

def connects(input, context):
    return attempt(lambda: socket.create_connection(("127.0.0.1", input["port"]), 2))

def connects_to_socket(input, context):
    return attempt(lambda: socket.socket(socket.AF_UNIX).connect(input["path"]))

def listens(input, context):
    return attempt(lambda: socket.create_server(("127.0.0.1", 0)))

def kills(input, context):
    return attempt(lambda: os.kill(input["pid"], signal.SIGKILL))

def call(result):
    return "refused" if result < 0 else "done"

def traces(input, context):
    return call(libc.ptrace(16, input["pid"], 0, 0))

def mounts(input, context):
    return call(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))

def makes_users(input, context):
    return call(libc.unshare(0x10000000))

def becomes_root(input, context):
    return attempt(lambda: os.setuid(0))

def keeps_capabilities(input, context):
    status = open("/proc/self/status").read()
    return {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line[:3] in ("Cap", "NoN")}

def own_temporary_file(input, context):
    import tempfile
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
        return os.path.dirname(file.name)

def fills_the_disk(input, context):
    folder = input["folder"]
    deeds = [
        lambda: open(f"{folder}/new", "wb").write(bytes(1 << 20)),
        lambda: os.mkdir(f"{folder}/new"),
        lambda: os.symlink("x" * 4000, f"{folder}/new"),
        lambda: socket.socket(socket.AF_UNIX).bind(f"{folder}/new"),
        lambda: os.truncate(f"{folder}/execute.sock", 1 << 30),
        lambda: os.remove(f"{folder}/execute.sock"),
    ]
    return [number for number, deed in enumerate(deeds) if attempt(deed) == "done"]


def cuts_off_memory(input, context):
    return {attempt(lambda: os.ftruncate(fd, 0)) for fd in range(3, 32)} == {"refused"}

def environment(input, context):
    return sorted(os.environ)
"""

JAVASCRIPT = """
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";

const attempt = (action) => {
  try {
    action();
  } catch (error) {
    return "refused";
  }
  return "done";
};
const settled = (begin) =>
  new Promise((resolve) => {
    const socket = begin(() => resolve("done"));
    socket.on("error", () => resolve("refused"));
  });

export const healthy = () => "well";
export const reads = (input) => attempt(() => fs.readFileSync(input.path));
export const lists = (input) => attempt(() => fs.readdirSync(input.path));
export const writes = (input) => attempt(() => fs.closeSync(fs.openSync(input.path, "w")));
export const removes = (input) => attempt(() => fs.unlinkSync(input.path));
export const connects = (input) => settled((done) => net.connect(input.port, "127.0.0.1", done));
export const connects_to_socket = (input) => settled((done) => net.connect(input.path, done));
export const listens = () => settled((done) => net.createServer().listen(0, "127.0.0.1", done));
export const kills = (input) => attempt(() => process.kill(input.pid, "SIGKILL"));
export const traces = (input) => attempt(() => fs.openSync(`/proc/${input.pid}/mem`, "r+"));
export const mounts = () => attempt(() => execFileSync("mount", ["-t", "tmpfs", "none", "/tmp"]));
export const makes_users = () => attempt(() => execFileSync("unshare", ["--user", "true"]));
export const becomes_root = () => attempt(() => process.setuid(0));

export function keeps_capabilities() {
  const lines = fs.readFileSync("/proc/self/status", "utf8").split("\\n");
  const told = lines.filter((line) => /^(Cap|NoN)/.test(line));
  return Object.fromEntries(told.map((line) => line.split(":\\t")));
}

export function own_temporary_file() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "x-"));
  fs.writeFileSync(path.join(folder, "x"), "x");
  return path.dirname(folder);
}

export async function fills_the_disk({ folder }) {
  const deeds = [
    () => fs.writeFileSync(`${folder}/new`, Buffer.alloc(1 << 20)),
    () => fs.mkdirSync(`${folder}/new`),
    () => fs.symlinkSync("x".repeat(4000), `${folder}/new`),
    () => fs.truncateSync(`${folder}/execute.sock`, 1 << 30),
    () => fs.unlinkSync(`${folder}/execute.sock`),
  ];
  const done = deeds.map(attempt).flatMap((outcome, number) => (outcome === "done" ? [number] : []));
  const bound = await settled((listening) => net.createServer().listen(`${folder}/new`, listening));
  return bound === "done" ? [...done, "socket"] : done;
}

export function cuts_off_memory() {
  const descriptors = Array.from({ length: 29 }, (_, number) => number + 3);
  return descriptors.every((descriptor) => attempt(() => fs.ftruncateSync(descriptor, 0)) === "refused");
}

export const environment = () => Object.keys(process.env).sort();
"""

CODE = {"python": PYTHON, "javascript": JAVASCRIPT}


async def test_files(start: Start) -> None:
    sandbox = await start(CODE)
    home = sandbox.home
    secret = home.secrets / "operator-token"
    other = home.trees / "bank" / "t1" / "state" / "main.py"
    other.parent.mkdir(parents=True)
    outside = Path("/tmp") / f"u-outside-{os.getpid()}"
    for path in (secret, other, outside):
        path.write_text("secret")
    try:
        for path in (secret, other, outside, Path("/etc/shadow"), Path("/proc/1/environ")):
            assert (await sandbox.execute("reads", data={"path": str(path)}))[1]["data"] == "refused", path
        own = home.trees / sandbox.app / "t1" / "state" / sandbox.script
        assert (await sandbox.execute("reads", data={"path": str(own)}))[1]["data"] == "done"
        assert (await sandbox.execute("lists", data={"path": str(home.secrets)}))[1]["data"] == "refused"
        targets = (own, home.root / "x", Path("/etc/x"), Path("/var/tmp/x"), Path("/dev/shm/x"), Path("/x"))
        for path in targets:
            assert (await sandbox.execute("writes", data={"path": str(path)}))[1]["data"] == "refused", path
        assert (await sandbox.execute("own_temporary_file"))[1]["data"] == "/tmp"
    finally:
        outside.unlink()


async def test_sockets(start: Start) -> None:
    sandbox = await start(CODE)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as redis:
        port = listener.getsockname()[1]
        assert (await sandbox.execute("connects", data={"port": port}))[1]["data"] == "refused"
        path = str(sandbox.home.run / "redis.sock")
        redis.bind(path)
        redis.listen()
        assert (await sandbox.execute("connects_to_socket", data={"path": path}))[1]["data"] == "refused"
    assert (await sandbox.execute("listens"))[1]["data"] == "refused"


async def test_processes(start: Start) -> None:
    sandbox = await start(CODE)
    for pid in (os.getpid(), sandbox.instance.pid):
        assert (await sandbox.execute("kills", data={"pid": pid}))[1]["data"] == "refused"
        assert (await sandbox.execute("traces", data={"pid": pid}))[1]["data"] == "refused"
    assert sandbox.instance.alive


async def test_memory_that_the_runner_reads(start: Start) -> None:
    sandbox = await start(CODE)
    assert (await sandbox.execute("cuts_off_memory"))[1]["data"] is True
    assert (await sandbox.execute("healthy"))[1]["data"] == "well"
    assert sandbox.instance.alive


async def test_what_the_daemon_trusts(start: Start) -> None:
    sandbox = await start(CODE)
    for name in ("instance.json", "runner.json"):
        path = str(sandbox.instance.dir / name)
        for function in ("reads", "writes", "removes"):
            assert (await sandbox.execute(function, data={"path": path}))[1]["data"] == "refused", (
                function,
                name,
            )


async def test_the_hosts_disk(start: Start) -> None:
    sandbox = await start(CODE)
    before = sorted(sandbox.instance.dir.iterdir())
    _, answer = await sandbox.execute("fills_the_disk", data={"folder": str(sandbox.instance.dir)})
    assert answer["data"] == []
    assert sorted(sandbox.instance.dir.iterdir()) == before
    assert "handlers write to their /tmp only" in sandbox.backend.protection()[0]


@pytest.mark.parametrize("function", ["mounts", "makes_users", "becomes_root"])
async def test_privileges(start: Start, function: str) -> None:
    sandbox = await start(CODE)
    assert (await sandbox.execute(function))[1]["data"] == "refused"


async def test_nothing_to_regain(start: Start) -> None:
    sandbox = await start(CODE)
    _, answer = await sandbox.execute("keeps_capabilities")
    none = "0" * 16
    expected = {"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none}
    assert answer["data"] == {**expected, "NoNewPrivs": "1"}
    assert set((await sandbox.execute("environment"))[1]["data"]) <= {
        "HOME",
        "LANG",
        "PATH",
        "TMPDIR",
        "LC_CTYPE",
    }


async def test_what_holds_is_told(start: Start) -> None:
    sandbox = await start(CODE)
    _, answer = await sandbox.ask("GET", "/readyz")
    in_force, missing = sandbox.backend.protection()
    assert answer["protection"] == {"inForce": in_force, "missing": missing}
    assert "user of its own" in in_force
    assert any("cgroup" in measure for measure in missing)
