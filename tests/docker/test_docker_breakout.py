"""A handler that attacks, run by the runner in its container: everything it tries fails."""

import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from runner.sandbox import MODES, Sandbox
from support.waiting import eventually
from uhlp_reconcilers.backends import procfs

Start = Callable[..., Awaitable[Sandbox]]

CODE = """
import ctypes, os, signal, socket, subprocess, sys, threading

libc = ctypes.CDLL(None, use_errno=True)

def healthy(input, context):
    return "well"

def attempt(action):
    try:
        action()
    except OSError as error:
        return "refused"
    return "done"

def call(result):
    return "refused" if result < 0 else "done"

def reads(input, context):
    return attempt(lambda: open(input["path"], "rb").read(1))

def writes(input, context):
    return attempt(lambda: open(input["path"], "a").close())

def truncates(input, context):
    return attempt(lambda: os.truncate(input["path"], 0))

def connects(input, context):
    return attempt(lambda: socket.create_connection((input["host"], input["port"]), 2))

def resolves(input, context):
    return attempt(lambda: socket.getaddrinfo("example.org", 80))

def connects_to_socket(input, context):
    return attempt(lambda: socket.socket(socket.AF_UNIX).connect(input["path"]))

def raw_socket(input, context):
    return attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))

def traces(input, context):
    return call(libc.ptrace(16, input["pid"], 0, 0))

def kills(input, context):
    return attempt(lambda: os.kill(input["pid"], signal.SIGKILL))

def mounts(input, context):
    return call(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))

def unshares(input, context):
    return call(libc.unshare(0x10000000))

def becomes_root(input, context):
    return attempt(lambda: os.setuid(0))

def makes_device(input, context):
    return attempt(lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0)))

def loads_keyring(input, context):
    return call(libc.syscall(250, 0, 0))

def raises_priority(input, context):
    return attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))

def sets_user_bit(input, context):
    import shutil
    shutil.copy("/bin/sh", "/tmp/sh")
    os.chmod("/tmp/sh", 0o6755)
    return attempt(lambda: subprocess.run(["/tmp/sh", "-c", "true"]))

def programs_that_change_user(input, context):
    found = []
    for folder in ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/lib"):
        for name in os.listdir(folder):
            try:
                if os.stat(os.path.join(folder, name)).st_mode & 0o6000 and not os.path.isdir(name):
                    found.append(name)
            except OSError:
                pass
    return found

def forks(input, context):
    count = 0
    while True:
        try:
            if os.fork() == 0:
                while True:
                    signal.pause()
        except OSError:
            return count
        count += 1

def eats(input, context):
    kept = []
    while True:
        kept.append(bytearray(8 << 20))

def eats_in_children(input, context):
    for _ in range(6):
        if os.fork() == 0:
            kept = bytearray(100 << 20)
            for index in range(0, len(kept), 4096):
                kept[index] = 1
            signal.pause()
    while True:
        signal.pause()

def fills_the_disk(input, context):
    folder = input["folder"]
    held = [os.path.join(folder, name) for name in os.listdir(folder)]
    deeds = [
        lambda: open(f"{folder}/new", "wb").write(bytes(1 << 20)),
        lambda: os.mkdir(f"{folder}/new"),
        lambda: os.mknod(f"{folder}/new"),
        lambda: os.symlink("x" * 4000, f"{folder}/new"),
        lambda: os.link("/tmp/own", f"{folder}/new"),
        lambda: os.rename("/tmp/own", f"{folder}/new"),
        lambda: socket.socket(socket.AF_UNIX).bind(f"{folder}/new"),
        *[lambda path=path: open(path, "ab").close() for path in held],
        *[lambda path=path: os.truncate(path, 1 << 30) for path in held],
        *[lambda path=path: os.remove(path) for path in held],
    ]
    open("/tmp/own", "w").close()
    return [number for number, deed in enumerate(deeds) if attempt(deed) == "done"]

def fills_tmp(input, context):
    with open("/tmp/big", "wb") as file:
        for _ in range(100):
            file.write(bytes(1 << 20))
"""


async def refused(sandbox: Sandbox, function: str, **data: object) -> bool:
    status, answer = await sandbox.execute(function, data=data)
    assert status == 200, answer
    return bool(answer["data"] == "refused")


async def test_files(start: Start) -> None:
    sandbox = await start(CODE)
    home = sandbox.home
    other = home.trees / "bank" / "t1" / "state" / "main.py"
    other.parent.mkdir(parents=True)
    secret = home.secrets / "operator-token"
    for path in (secret, other):
        path.write_text("secret")
    for path in (secret, other, Path("/etc/shadow"), Path("/proc/1/environ"), Path("/proc/kcore")):
        assert await refused(sandbox, "reads", path=str(path)), path
    assert not await refused(sandbox, "reads", path="/uhlp/trees/t1/state/main.py")
    for path in ("/uhlp/trees/t1/state/main.py", "/x", "/etc/x", "/opt/uhlp/x", "/var/tmp/x", "/proc/sys/x"):
        assert await refused(sandbox, "writes", path=path), path
    assert not await refused(sandbox, "writes", path="/tmp/x")


async def test_the_log_is_out_of_reach(start: Start) -> None:
    sandbox = await start(CODE)
    size = sandbox.log.stat().st_size
    assert size > 0
    for path in ("/uhlp/app.log", "/proc/1/fd/1", "/proc/self/fd/1/../../../../uhlp/app.log"):
        assert await refused(sandbox, "truncates", path=path), path
        assert await refused(sandbox, "writes", path=path), path
    assert sandbox.log.stat().st_size >= size


async def test_network(start: Start) -> None:
    sandbox = await start(CODE)
    with socket.create_server(("0.0.0.0", 0)) as listener, socket.socket(socket.AF_UNIX) as redis:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "172.17.0.1", "169.254.169.254", "10.0.0.1"):
            assert await refused(sandbox, "connects", host=host, port=port), host
        path = str(sandbox.home.run / "redis.sock")
        redis.bind(path)
        redis.listen()
        for target in (path, "/var/run/docker.sock"):
            assert await refused(sandbox, "connects_to_socket", path=target)
    assert await refused(sandbox, "resolves")
    assert await refused(sandbox, "raw_socket")


async def test_another_app(start: Start) -> None:
    bank = await start("def healthy(input, context):\n    return 'well'\n", app="bank")
    shop = await start(CODE)
    for name in ("execute.sock", "mcp.sock"):
        assert await refused(shop, "connects_to_socket", path=str(bank.instance.dir / name))
    assert await refused(shop, "kills", pid=bank.instance.pid)
    assert await refused(shop, "reads", path=f"/proc/{bank.instance.pid}/environ")
    assert (await bank.execute("healthy"))[1]["data"] == "well"


@pytest.mark.parametrize(
    "function",
    [
        "mounts",
        "unshares",
        "becomes_root",
        "makes_device",
        "loads_keyring",
        "raises_priority",
        "sets_user_bit",
    ],
)
async def test_privileges(start: Start, function: str) -> None:
    assert await refused(await start(CODE), function)


async def test_no_program_changes_its_user(start: Start) -> None:
    _, answer = await (await start(CODE)).execute("programs_that_change_user")
    assert answer["data"] == []


async def test_the_runner_is_out_of_reach(start: Start) -> None:
    sandbox = await start(CODE)
    await sandbox.execute("healthy")
    found = [pid_inside(process.pid) for process in procfs.tree(sandbox.instance.pid)]
    pids = [pid for pid in found if pid is not None]
    assert len(pids) >= 3, "init, the runner, and what starts handlers"
    for pid in pids:
        assert await refused(sandbox, "traces", pid=pid), pid
        assert await refused(sandbox, "kills", pid=pid), pid
    assert (await sandbox.execute("healthy"))[1]["data"] == "well"


def pid_inside(pid: int) -> int | None:
    """The pid that a process has in its container; None if it has ended since it was found."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    [line] = [line for line in status if line.startswith("NSpid:")]
    return int(line.split()[-1])


async def test_a_fork_bomb_is_bounded(start: Start) -> None:
    sandbox = await start(CODE, max_processes=16)
    _, answer = await sandbox.execute("forks")
    assert answer["data"] <= 16 + 2 * 2 + 32
    assert (await sandbox.execute("healthy"))[1]["data"] == "well"
    await eventually(lambda: len(sandbox.processes()) < 10, "what the bomb left is swept away")


async def test_a_memory_bomb_meets_its_own_limit(start: Start) -> None:
    sandbox = await start(CODE, memory_limit="64M")
    status, answer = await sandbox.execute("eats")
    assert (status, answer["error"]) == (500, "OUT_OF_MEMORY")
    assert (await sandbox.execute("healthy"))[1]["data"] == "well"


async def test_many_small_bombs_meet_the_containers_limit(start: Start) -> None:
    sandbox = await start(CODE, memory_limit="128M", timeout_seconds=2.0)
    status, answer = await sandbox.execute("eats_in_children")
    assert (status, answer["error"]) in [(500, "HANDLER_TIMEOUT"), (500, "HANDLER_CRASHED")]
    stats = await sandbox.backend.stats(sandbox.instance)
    assert stats.memory_bytes < (128 + 64) << 20
    assert (await sandbox.execute("healthy"))[1]["data"] == "well"


async def test_tmp_is_bounded(start: Start) -> None:
    sandbox = await start(CODE)
    status, answer = await sandbox.execute("fills_tmp")
    assert (status, answer["error"]) == (500, "HANDLER_EXCEPTION")
    assert "No space left" in answer["details"]
    assert os.statvfs("/").f_bavail > 0


@pytest.mark.parametrize("mode", MODES)
async def test_the_hosts_disk_is_out_of_reach(start: Start, mode: str) -> None:
    sandbox = await start(CODE, mode=mode)
    await sandbox.prepare("t1", "main.py", "fills_the_disk", "healthy")
    before = sorted(sandbox.instance.dir.iterdir())
    _, answer = await sandbox.execute("fills_the_disk", data={"folder": str(sandbox.instance.dir)})
    assert answer["data"] == []
    assert sorted(sandbox.instance.dir.iterdir()) == before
    assert (await sandbox.execute("healthy"))[1]["data"] == "well"
