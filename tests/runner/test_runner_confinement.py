"""A handler that attacks: what it must not reach, tried from the inside. Needs root, as the daemon does."""

import os
import socket
from pathlib import Path

import pytest

from runner.conftest import Start

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an app gets a user of its own only from root")

CODE = """
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

def environment(input, context):
    return sorted(os.environ)
"""


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
        own = home.trees / sandbox.app / "t1" / "state" / "main.py"
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
