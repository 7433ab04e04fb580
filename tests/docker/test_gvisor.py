"""Pools with `isolation: gvisor`, on a real gVisor in an engine of the tests' own.

Skipped where `runsc` is not installed, unless UHLP_REQUIRE_GVISOR is set.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.sandbox import MODES, Sandbox
from support.own_engine import running
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_state.model.pools import Isolation

CODE = """
import os, socket, subprocess, time

def kernel(input, context):
    boot = subprocess.run(["dmesg"], capture_output=True, text=True).stdout
    return {"release": os.uname().release, "boot": boot}

def raises(input, context):
    raise ValueError("on purpose")

def sleeps(input, context):
    time.sleep(60)

def ends(input, context):
    os._exit(3)

def forks(input, context):
    if os.fork() == 0:
        time.sleep(60)
    return "forked"

def calls(input, context):
    door = socket.socket(socket.AF_UNIX)
    door.connect(input["path"])
    return door.recv(16).decode()

def reaches(input, context):
    try:
        socket.create_connection((input["host"], 80), 1)
    except OSError:
        return "refused"
"""


@pytest.fixture(scope="module", autouse=True)
def gvisor(image: str) -> Iterator[None]:
    runsc = shutil.which("runsc")
    if runsc is None:
        assert not os.environ.get("UHLP_REQUIRE_GVISOR"), "runsc is not installed"
        pytest.skip("runsc is not installed (UHLP_REQUIRE_GVISOR would make this a failure)")
    # ptrace runs on every machine; without a network of its own gVisor needs no network namespace's details.
    arguments = ["--platform=ptrace", "--host-uds=all", "--network=none"]
    with running(image, runtimes={"runsc": {"path": runsc, "runtimeArgs": arguments}}):
        yield


@pytest.mark.parametrize("mode", MODES)
async def test_it_serves(home: Home, backend: DockerBackend, mode: str) -> None:
    sandbox = Sandbox(home, backend, "shop", mode)
    sandbox.tree("t1", {"main.py": CODE})
    await sandbox.start(isolation=Isolation.GVISOR, timeout_seconds=20.0)
    functions = ("kernel", "raises", "sleeps", "ends", "forks", "calls", "reaches")
    assert await sandbox.prepare("t1", "main.py", *functions) == (200, {"ready": True})

    _, answer = await sandbox.execute("kernel")
    assert answer["data"]["release"] == "4.4.0" != os.uname().release
    assert "Starting gVisor" in answer["data"]["boot"]
    assert (await sandbox.execute("forks"))[1]["data"] == "forked"
    for function, error in (("raises", "HANDLER_EXCEPTION"), ("ends", "HANDLER_CRASHED")):
        status, answer = await sandbox.execute(function)
        assert (status, answer["error"]) == (500, error)
    status, answer = await sandbox.execute("sleeps", timeoutMs=200)
    assert (status, answer["error"]) == (500, "HANDLER_TIMEOUT")
    for host in ("127.0.0.1", "10.0.0.1"):
        assert (await sandbox.execute("reaches", data={"host": host}))[1]["data"] == "refused"
    door = str(sandbox.instance.dir / "mcp.sock")
    assert await answered(sandbox, door) == "hello"

    protection = (await sandbox.ask("GET", "/readyz"))[1]["protection"]
    assert {"not root", "no network", "read-only root", "private /tmp", "no capabilities"} <= set(
        protection["inForce"]
    )
    assert any(measure.startswith("Landlock") for measure in protection["missing"])
    assert (await backend.stats(sandbox.instance)).memory_bytes > 0
    await backend.remove(sandbox.instance, grace=10)
    assert sandbox.instance.exit_reason == "exited with status 0", "drained"


async def answered(sandbox: Sandbox, path: str) -> str:
    """What a handler hears at the door that the host opens in its folder."""
    import asyncio

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_unix_server(greet, path):
        Path(path).chmod(0o666)
        return str((await sandbox.execute("calls", data={"path": path}))[1]["data"])
