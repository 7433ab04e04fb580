"""The process backend: what it starts outlives it, and is found again or cleaned up."""

import json
import os
import signal
from pathlib import Path

import pytest

from runner.sandbox import Sandbox, request
from support.waiting import eventually
from uhlp_core.home import Home
from uhlp_reconcilers.backends.process import ProcessBackend
from uhlp_reconcilers.backends.protocol import BackendError
from uhlp_reconcilers.backends.users import UID_COUNT, UID_FIRST, Users

CODE = """
import os

def run(input, context):
    return os.getpid()

def ends(input, context):
    os._exit(3)
"""


@pytest.fixture
async def sandbox(home: Home, backend: ProcessBackend) -> Sandbox:
    sandbox = Sandbox(home, backend, "shop", "server")
    sandbox.tree("t1", {"main.py": CODE})
    await sandbox.start()
    return sandbox


async def test_another_daemon_adopts_it(home: Home, sandbox: Sandbox) -> None:
    [found] = await ProcessBackend(home).list()
    assert found == sandbox.instance
    assert found.alive
    assert (await sandbox.execute("run"))[0] == 200


async def test_stats_and_logs(backend: ProcessBackend, sandbox: Sandbox) -> None:
    stats = await backend.stats(sandbox.instance)
    assert stats.processes == 3
    assert stats.memory_bytes > 1 << 20
    assert backend.logs(sandbox.instance) == sandbox.log


async def test_remove_leaves_nothing(backend: ProcessBackend, sandbox: Sandbox) -> None:
    before = sandbox.processes()
    await backend.remove(sandbox.instance, grace=5)
    assert before
    await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before), "all have ended")
    assert not sandbox.instance.dir.exists()
    assert await backend.list() == []
    assert sandbox.instance.exit_reason == "exited with status 0"


async def test_a_killed_runner_is_noticed(backend: ProcessBackend, sandbox: Sandbox) -> None:
    os.kill(sandbox.instance.pid, signal.SIGKILL)
    await backend.wait(sandbox.instance)
    assert not sandbox.instance.alive
    assert sandbox.instance.exit_reason == "killed by SIGKILL"
    with pytest.raises(BackendError, match="has ended"):
        await backend.stats(sandbox.instance)


async def test_a_recycled_pid_is_not_taken_for_it(
    home: Home, backend: ProcessBackend, sandbox: Sandbox
) -> None:
    record = sandbox.instance.dir / "instance.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"pid": os.getpid()}))
    [found] = await ProcessBackend(home).list()
    assert not found.alive
    record.write_text(json.dumps(content))


async def test_a_half_written_instance_is_ended(
    home: Home, backend: ProcessBackend, sandbox: Sandbox
) -> None:
    record = sandbox.instance.dir / "instance.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"pid": 0, "startTicks": 0}))
    other = ProcessBackend(home)
    [found] = await other.list()
    assert not found.alive
    await other.remove(found, grace=0)
    assert not sandbox.instance.alive
    assert await other.list() == []


async def test_what_cannot_be_read_is_no_empty_list(backend: ProcessBackend, sandbox: Sandbox) -> None:
    record = sandbox.instance.dir / "instance.json"
    content = record.read_text()
    record.write_text("{")
    with pytest.raises(BackendError, match="cannot be read"):
        await backend.list()
    record.write_text(content)


async def test_a_lane_outlives_its_worker(sandbox: Sandbox) -> None:
    await sandbox.prepare("t1", "main.py", "run")
    first = await sandbox.ask("POST", "/execute", request("run"), socket="w0.sock")
    with pytest.raises(EOFError):
        await sandbox.ask("POST", "/execute", request("ends", request_id="ended"), socket="w0.sock")
    second = await sandbox.ask("POST", "/execute", request("run"), socket="w0.sock")
    assert (first[0], second[0]) == (200, 200)
    assert first[1]["data"] != second[1]["data"]
    status, outcome = await sandbox.ask("GET", "/outcome?requestId=ended")
    assert (status, outcome["code"]) == (200, "HANDLER_CRASHED")
    assert (await sandbox.ask("GET", "/outcome?requestId=never"))[0] == 404


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (None, "needs Node.js, and there is none on PATH; install Node.js 20 or newer"),
        ("v16.20.2", r"is Node.js 16\.20, too old .* install Node.js 20 or newer"),
        ("Deno 2", "is not Node.js"),
    ],
)
async def test_without_a_node_that_serves(
    home: Home,
    backend: ProcessBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str | None,
    told: str,
) -> None:
    if version:
        program = tmp_path / "node"
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match=told):
        await Sandbox(home, backend, "shop", "fork", "javascript").start()
    assert await backend.list() == []


def test_platforms_on_one_machine_do_not_share_their_users(tmp_path: Path) -> None:
    apps = ("shop", "bank", "post", "cafe")
    given = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        users = Users(tmp_path / name / "users.json")
        given.append([users.uid_of(app) for app in apps])
    assert given[0] != given[1]


async def test_each_app_has_its_user(tmp_path: Path) -> None:
    users = Users(tmp_path / "users.json")
    shop, bank = users.uid_of("shop"), users.uid_of("bank")
    assert shop != bank
    assert UID_FIRST <= shop < UID_FIRST + UID_COUNT
    assert Users(tmp_path / "users.json").uid_of("shop") == shop
    (tmp_path / "users.json").write_text(json.dumps({"other": shop}))
    assert users.uid_of("shop") == UID_FIRST + (shop + 1 - UID_FIRST) % UID_COUNT
    (tmp_path / "users.json").write_text("[")
    with pytest.raises(BackendError, match="cannot be read"):
        users.uid_of("shop")
