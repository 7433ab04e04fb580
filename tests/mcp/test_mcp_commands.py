"""`core.linux.executeCommand`: what runs, as whom and how bounded; and the attacks that must not."""

import asyncio
import base64
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.mcp_office import Office
from support.waiting import eventually
from uhlp_mcp.commands.arguments import GRAMMARS, ArgumentRefused
from uhlp_mcp.commands.running import COMMAND_UID, START_SECONDS
from uhlp_state.model.commands import MAX_COMMAND_SECONDS

TOOL = "core.linux.executeCommand"
GREP, SORT, JQ, BASH = (f"/usr/bin/{name}" for name in ("grep", "sort", "jq", "bash"))


async def allow(office: Office, *paths: str, **limits: Any) -> None:
    """As a commit of app alpha would; for bash it would need the operator's word too."""
    await office.publish("alpha", commands={"allowed": [{"path": path} for path in paths], **limits})


async def shell(office: Office, script: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = await office.call("a0", TOOL, command=BASH, args=["-c", script], **more)
    return found


@pytest.mark.skipif(not Path(JQ).exists(), reason=f"{JQ} is not installed")
async def test_a_program_reads_stdin_and_answers(office: Office) -> None:
    await allow(office, JQ)
    done = await office.call(
        "a0", TOOL, command=JQ, args=["-c", "--arg", "n", "1", "{a: .a, n: $n}"], stdin='{"a": "ü"}'
    )
    assert done.pop("durationMs") > 0
    assert done == {"exitCode": 0, "stdout": '{"a":"ü","n":"1"}\n', "stderr": "", "encoding": "utf-8"}
    failed = await office.call("a0", TOOL, command=JQ, args=["."], stdin="{")
    assert failed["exitCode"] != 0
    assert "parse error" in failed["stderr"]


async def test_bytes_go_in_and_out_as_base64(office: Office) -> None:
    await allow(office, "/usr/bin/head")
    raw = b"\xff\0\xfe\n"
    done = await office.call(
        "a0", TOOL, command="/usr/bin/head", args=["-c", "3"],
        stdin=base64.b64encode(raw).decode(), stdinEncoding="base64",
    )  # fmt: skip
    assert (base64.b64decode(done["stdout"]), done["encoding"]) == (raw[:3], "base64")


async def test_only_exactly_what_the_app_allows_runs(office: Office) -> None:
    await allow(office, GREP)
    for command in (
        "grep",
        "/bin/grep",
        "/usr/bin/../bin/grep",
        "/usr/bin/grep ",
        "/usr//bin/grep",
        SORT,
        "sh -c id",
    ):
        told = await office.refused("a0", TOOL, command=command)
        assert told.startswith("COMMAND_REFUSED"), told
        assert told.endswith("is not among the programs that alpha allows: /usr/bin/grep")
    assert "allows: none" in await office.refused("b0", TOOL, command=GREP)


async def test_it_runs_as_nobody_with_nothing(office: Office) -> None:
    await allow(office, BASH)
    script = "id -u; pwd; ls -A; env | cut -d= -f1 | sort; ls /root || (echo x > /etc/uhlp-x) || echo denied"
    uid = COMMAND_UID if os.geteuid() == 0 else os.geteuid()
    names = ["HOME", "LANG", "PATH", "PWD", "SHLVL", "TMPDIR", "_"]  # PWD, SHLVL and _ are of bash.
    assert (await shell(office, script))["stdout"].split() == [str(uid), "/tmp/work", *names, "denied"]
    assert not Path("/etc/uhlp-x").exists()


async def test_the_platform_and_other_programs_are_out_of_sight(office: Office) -> None:
    await allow(office, BASH)
    await office.publish("beta", commands={"allowed": [{"path": BASH}]})
    home = office.settings.home
    token = home.secrets / "operator-token"
    token.write_text("op-secret")
    mark = f"85{os.getpid()}"
    beside = asyncio.create_task(office.call("b0", TOOL, command=BASH, args=["-c", f"exec sleep {mark}"]))
    [other] = await eventually(lambda: running(mark), "another app's program runs, as the same user")
    [folder_of_other] = (home.run / "x").iterdir()
    script = f"for pid in {other} {os.getpid()}; do kill -0 $pid; echo $?; done"
    hidden = (token, home.repos, folder_of_other, f"/proc/{other}", f"/proc/{os.getpid()}")
    script += f"; for path in {' '.join(map(str, hidden))}; do [ -e $path ]; echo $?; done"
    try:
        assert all(Path(path).exists() for path in hidden)
        done = await shell(office, script)
    finally:
        os.kill(other, signal.SIGKILL)
        assert (await beside)["exitCode"] == 128 + signal.SIGKILL
    assert done["stdout"] == "1\n" * (2 + len(hidden))
    assert done["stderr"].count("No such process") == 2


async def test_it_has_no_network(office: Office) -> None:
    await allow(office, BASH)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        done = await shell(office, f"(exec 3<>/dev/tcp/127.0.0.1/{port}) && echo open || echo closed")
    assert done["stdout"] == "closed\n"


async def test_arguments_reach_no_shell(office: Office) -> None:
    await allow(office, GREP)
    for text in ("$(id)", "`id`", "; id", "| id", "&& id", "> /tmp/x", "* ?"):
        done = await office.call("a0", TOOL, command=GREP, args=["-F", "-e", text], stdin=f"a{text}b\n")
        assert (done["stdout"], done["stderr"]) == (f"a{text}b\n", "")


async def test_time_is_bounded_and_the_whole_tree_ends(office: Office) -> None:
    await allow(office, BASH, timeoutSeconds=1)
    # Grandchildren in sessions of their own, deaf to every signal that can be ignored.
    mark = f"86{os.getpid()}"
    script = f"trap '' TERM INT HUP; (setsid sleep {mark} &) ; setsid -f sleep {mark}; sleep {mark}"
    told = await office.refused("a0", TOOL, command=BASH, args=["-c", script], timeoutSeconds=0.5)
    assert told.startswith("COMMAND_TIMED_OUT: /usr/bin/bash took more than 0.5 s")
    await eventually(lambda: not running(mark), "nothing of it runs")


@pytest.mark.parametrize(
    ("script", "asked"),
    [
        ("while :; do :; done", {}),
        ("trap '' XCPU ALRM; while :; do :; done", {}),
        ("sleep 30", {"timeoutSeconds": MAX_COMMAND_SECONDS}),  # A call cannot raise what the app has set.
        ("kill -XCPU $$", {}),  # As the kernel does to what has several threads.
    ],
)
async def test_it_ends_at_the_time_that_is_told(office: Office, script: str, asked: dict[str, int]) -> None:
    await allow(office, BASH, timeoutSeconds=1)
    began = time.monotonic()
    told = await office.refused("a0", TOOL, command=BASH, args=["-c", script], **asked)
    assert time.monotonic() - began < START_SECONDS, "the time is the program's, and no more"
    assert told.startswith("COMMAND_TIMED_OUT: /usr/bin/bash took more than 1 s")


async def test_the_shortest_time_is_one(office: Office) -> None:
    """It is over before the program's process space may have come to be."""
    await allow(office, BASH)
    began = time.monotonic()
    told = await office.refused("a0", TOOL, command=BASH, args=["-c", "sleep 30"], timeoutSeconds=1e-9)
    assert time.monotonic() - began < START_SECONDS
    assert told.startswith("COMMAND_TIMED_OUT")


async def test_what_it_leaves_running_ends_with_it(office: Office) -> None:
    await allow(office, BASH)
    mark = f"87{os.getpid()}"
    done = await shell(office, f"setsid -f sleep {mark} >/dev/null 2>&1 </dev/null; echo done")
    assert done["stdout"] == "done\n"
    await eventually(lambda: not running(mark), "nothing of it runs")


DAEMON = """
import asyncio, sys
from pathlib import Path
from uhlp_mcp.background import Background
from uhlp_mcp.commands.program import open_program
from uhlp_mcp.commands.running import Limits, run

bash, script, folder = sys.argv[1:]
limits = Limits(seconds=60, memory_bytes=256 << 20, max_processes=16, output_bytes=1024)
asyncio.run(run(
    open_program(bash), [bash, "-c", script], b"", limits,
    hidden=Path(folder), folder=Path(folder, "x"), network=False, ending=Background(),
))
"""


async def test_all_of_it_ends_with_the_daemon(tmp_path: Path) -> None:
    mark = f"88{os.getpid()}"
    script = f"trap '' TERM INT HUP; setsid -f sleep {mark}; exec sleep {mark}"
    daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", DAEMON, BASH, script, str(tmp_path))
    try:
        await eventually(lambda: len(running(mark)) == 2, "it and what it has started run")
        daemon.kill()
        assert await daemon.wait() == -signal.SIGKILL
        await eventually(lambda: not running(mark), "nothing of it runs")
    finally:
        for process in running(mark):
            os.kill(process, signal.SIGKILL)


def running(mark: str) -> list[int]:
    """The processes `sleep <mark>`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"sleep\0{mark}\0".encode() == (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


async def test_zombies_are_taken_in(office: Office) -> None:
    await allow(office, BASH)
    # Each loses its parent at once, so it ends as a child of the first process of their space.
    script = "for i in 1 2 3; do (true & exec true); done; wait"
    script += "; while grep -q '^State:.Z' /proc/[0-9]*/status; do :; done; echo none"
    assert (await shell(office, script))["stdout"] == "none\n"


async def test_endless_output_is_cut_off(office: Office) -> None:
    await allow(office, BASH, maxOutputBytes=1024)
    for stream in ("1", "2"):
        told = await office.refused(
            "a0", TOOL, command=BASH, args=["-c", f"while :; do echo y >&{stream}; done"]
        )
        assert told == "COMMAND_OUTPUT_LIMIT: its output is more than 1024 bytes; it was killed"


async def test_memory_processes_and_files_are_bounded(office: Office) -> None:
    await allow(office, BASH, memoryLimit="32M", maxProcesses=8)
    memory = await shell(office, "a=x; while :; do a=$a$a; done")
    assert memory["exitCode"] != 0
    assert "cannot allocate" in memory["stderr"]
    forks = await shell(office, "for i in $(seq 9); do sleep 0.9 & done; wait")
    assert "Resource temporarily unavailable" in forks["stderr"]
    files = await shell(office, f"trap '' XFSZ; head -c {64 << 20} /dev/zero > big; stat -c %s big")
    assert 31 << 20 <= int(files["stdout"]) <= 32 << 20


async def test_cpu_and_open_files_are_bounded(office: Office) -> None:
    """By the kernel: of CPU first with SIGXCPU, which is told as a timeout, then with SIGKILL."""
    await allow(office, BASH, timeoutSeconds=1)
    found = await shell(office, "ulimit -St; ulimit -Ht; ulimit -Hn; ulimit -t unlimited || echo kept")
    assert found["stdout"] == "2\n3\n64\nkept\n"


async def test_it_ends_by_signal_with_the_shells_code(office: Office) -> None:
    await allow(office, BASH)
    assert (await shell(office, "kill -SEGV $$"))["exitCode"] == 128 + signal.SIGSEGV
    assert (await shell(office, "exit 7"))["exitCode"] == 7


async def test_its_folder_is_gone_with_it(office: Office) -> None:
    await allow(office, BASH)
    assert (await shell(office, "echo x > f; ls"))["stdout"] == "f\n"
    assert (await shell(office, "ls -A"))["stdout"] == ""
    assert list((office.settings.home.run / "x").iterdir()) == []


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("sed", ["-i", "s/a/b/"]),
        ("sed", ["--in-place", "s/a/b/"]),
        ("sed", ["-f", "/etc/passwd"]),
        ("sed", ["-ni", "p"]),
        ("sed", ["s/a/b/", "/etc/passwd"]),
        ("sed", ["-E", "s/(a{5000}){5000}/b/"]),
        ("gawk", ["-f", "x.awk"]),
        ("gawk", ["--file=x.awk", "1"]),
        ("gawk", ["-l", "filefuncs", "1"]),
        ("gawk", ["-i", "inplace", "1"]),
        ("gawk", ["1", "/etc/passwd"]),
        ("gawk", ["--load=x", "1"]),
        ("jq", ["--rawfile", "a", "/etc/passwd", "."]),
        ("jq", ["--slurpfile", "a", "/etc/passwd", "."]),
        ("jq", ["-L", "/tmp", "."]),
        ("jq", ["-f", "/etc/passwd"]),
        ("jq", [".", "/etc/passwd"]),
        ("jq", ["--arg", "a"]),
        ("grep", ["-r", "root", "/etc"]),
        ("grep", ["root", "/etc/passwd"]),
        ("grep", ["-f", "/etc/passwd"]),
        ("grep", ["-P", "(a+)+$"]),
        ("grep", ["--file=/etc/passwd"]),
        ("grep", ["--regexp"]),
        ("grep", ["-m", "x", "a"]),
        ("sort", ["-o", "/tmp/x"]),
        ("sort", ["--output=/tmp/x"]),
        ("sort", ["--outp", "/tmp/x"]),
        ("sort", ["--compress-program=/bin/sh"]),
        ("sort", ["-T", "/tmp"]),
        ("sort", ["--files0-from=-"]),
        ("tail", ["-f"]),
        ("date", ["-s", "2000-01-01"]),
        ("date", ["-f", "/etc/passwd"]),
        ("date", ["-r", "/etc/passwd"]),
        ("uniq", ["a", "b"]),
        ("base64", ["/etc/passwd"]),
        ("sha256sum", ["-c", "x"]),
        ("sha256sum", ["/etc/passwd"]),
        ("wc", ["--files0-from=/etc/passwd"]),
    ],
)  # fmt: skip
def test_no_option_reads_writes_or_starts_anything_else(program: str, arguments: list[str]) -> None:
    with pytest.raises(ArgumentRefused, match=rf"^{program}: "):
        GRAMMARS[program].checked(f"{program}", arguments)


def test_what_passes_comes_out_as_it_is_meant() -> None:
    assert GRAMMARS["sort"].checked("sort", ["-rnk2", "--unique"]) == ["-r", "-n", "-k", "2", "--unique"]
    assert GRAMMARS["cut"].checked("cut", ["-d,", "--fields", "1"]) == ["-d", ",", "--fields", "1"]
    assert GRAMMARS["sed"].checked("sed", ["p", "-n"]) == ["--sandbox", "-n", "-e", "p"]
    assert GRAMMARS["grep"].checked("grep", ["-e", "-x"]) == ["-e", "-x"]
