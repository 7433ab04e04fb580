"""`core.linux.executeCommand`: what runs, as whom and how bounded; and the attacks that must not."""

import asyncio
import base64
import os
import shutil
import signal
import ssl
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from support.certificates import certificate
from support.mcp_office import Office
from support.waiting import eventually
from uhlp_mcp.commands import web
from uhlp_mcp.commands.arguments import GRAMMARS, ArgumentRefused
from uhlp_mcp.commands.program import ProgramRefused, open_program
from uhlp_mcp.commands.running import COMMAND_UID, START_SECONDS
from uhlp_mcp.egress import Egress, EgressRefused

TOOL = "core.linux.executeCommand"
GREP, SED, SORT, JQ, GAWK, BASH = (
    f"/usr/bin/{name}" for name in ("grep", "sed", "sort", "jq", "gawk", "bash")
)


def needs(path: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not Path(path).exists(), reason=f"{path} is not installed")


async def allow(office: Office, *paths: str, **limits: Any) -> None:
    """As a commit of app alpha would; for bash it would need the operator's word too."""
    await office.publish("alpha", commands={"allowed": [{"path": path} for path in paths], **limits})


async def shell(office: Office, script: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = await office.call("a0", TOOL, command=BASH, args=["-c", script], **more)
    return found


@needs(JQ)
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
    script = "id -u; env | sort; pwd; ls -A; ls /root 2>&1; (echo x > /etc/uhlp-x) 2>&1"
    lines = (await shell(office, script))["stdout"].splitlines()
    assert lines[0] == (str(COMMAND_UID) if os.geteuid() == 0 else str(os.geteuid()))
    names = {line.partition("=")[0] for line in lines[1:] if "=" in line}
    assert names == {"HOME", "LANG", "PATH", "PWD", "SHLVL", "TMPDIR", "_"}
    assert any("ermission denied" in line or "cannot open" in line for line in lines)
    assert not Path("/etc/uhlp-x").exists()


async def test_the_platforms_home_and_other_instances_are_out_of_sight(office: Office) -> None:
    await allow(office, BASH)
    home = office.settings.home
    (home.secrets / "operator-token").write_text("op-secret")
    done = await shell(
        office, f"cat {home.secrets}/operator-token; ls {home.run} {home.repos}; kill -0 {os.getpid()}"
    )
    assert done["stdout"] in ("", f"{home.run}:\nx\n")  # The way to its own folder, and nothing beside it.
    assert "op-secret" not in done["stderr"]


async def test_it_has_no_network(office: Office) -> None:
    await allow(office, BASH)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        done = await shell(office, f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo open")
    assert done["stdout"] == ""


async def test_arguments_reach_no_shell(office: Office) -> None:
    await allow(office, GREP)
    for text in ("$(id)", "`id`", "; id", "| id", "&& id", "\n id", "> /tmp/x"):
        done = await office.call(
            "a0", TOOL, command=GREP, args=["-F", "-e", text], stdin=f"a{text}b\n".replace("\n id", " id")
        )
        assert "uid=" not in done["stdout"] + done["stderr"]


async def test_time_is_bounded_and_the_whole_tree_ends(office: Office, tmp_path: Path) -> None:
    await allow(office, BASH, timeoutSeconds=1)
    # Grandchildren in sessions of their own, deaf to every signal that can be ignored.
    mark = f"86{os.getpid()}"
    script = f"trap '' TERM INT HUP; (setsid sleep {mark} &) ; setsid -f sleep {mark}; sleep {mark}"
    told = await office.refused("a0", TOOL, command=BASH, args=["-c", script], timeoutSeconds=0.5)
    assert told.startswith("COMMAND_TIMED_OUT")
    await eventually(lambda: not running(mark), "nothing of it runs")


@pytest.mark.parametrize(
    "script",
    [
        "while :; do :; done",
        "trap '' XCPU ALRM; while :; do :; done",
        "sleep 30",
        "kill -XCPU $$",  # As the kernel does to what has several threads.
    ],
)
async def test_it_ends_at_the_time_that_is_told(office: Office, script: str) -> None:
    await allow(office, BASH, timeoutSeconds=1)
    began = time.monotonic()
    told = await office.refused("a0", TOOL, command=BASH, args=["-c", script])
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


def running(mark: str) -> bool:
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"sleep\0{mark}\0".encode() in process.read_bytes():
                return True
        except OSError:
            continue
    return False


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
    forks = await shell(office, "for i in $(seq 64); do sleep 5 & done; kill $(jobs -p); wait")
    assert "Resource temporarily unavailable" in forks["stderr"]
    files = await shell(office, f"trap '' XFSZ; head -c {64 << 20} /dev/zero > big; stat -c %s big")
    assert int(files["stdout"].split()[-1]) <= 32 << 20


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


@pytest.mark.parametrize(
    "script", ["1e id", "s/x/id/e", "w /tmp/uhlp-x", "r /etc/passwd", "s/x/y/w /tmp/uhlp-x"]
)
async def test_sed_can_neither_start_read_nor_write(office: Office, script: str) -> None:
    await allow(office, SED)
    done = await office.call("a0", TOOL, command=SED, args=[script], stdin="x\n")
    assert done["exitCode"] != 0
    assert "uid=" not in done["stdout"]
    assert "root:" not in done["stdout"]
    assert "sandbox" in done["stderr"]


@needs(GAWK)
@pytest.mark.parametrize(
    "script",
    [
        'BEGIN{system("id")}',
        'BEGIN{"id" | getline x; print x}',
        'BEGIN{while ((getline x < "/etc/passwd") > 0) print x}',
        'BEGIN{print "x" > "/tmp/uhlp-x"}',
        'BEGIN{print "x" | "cat"}',
        'BEGIN{s="/inet/tcp/0/127.0.0.1/22"; s |& getline x; print x}',
    ],
)
async def test_awk_can_neither_start_read_nor_write(office: Office, script: str) -> None:
    await allow(office, GAWK)
    done = await office.call("a0", TOOL, command=GAWK, args=[script], stdin="")
    assert "uid=" not in done["stdout"]
    assert "root:" not in done["stdout"]
    assert not Path("/tmp/uhlp-x").exists()
    assert done["exitCode"] != 0


# -- the program's file ------------------------------------------------------------------------------------


@pytest.fixture
def folder_of_root() -> Any:
    if os.geteuid() != 0:
        pytest.skip("makes programs that belong to root")
    folder = Path("/usr/local/lib/uhlp-test-programs")
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_program_that_could_lead_elsewhere_is_refused(folder_of_root: Path) -> None:
    program = folder_of_root / "program"
    shutil.copy("/usr/bin/true", program)
    os.close(open_program(str(program)))

    (folder_of_root / "link").symlink_to(program)
    with pytest.raises(ProgramRefused, match="is a symbolic link"):
        open_program(str(folder_of_root / "link"))
    (folder_of_root / "folder").symlink_to(folder_of_root)
    with pytest.raises(ProgramRefused, match="symbolic link"):
        open_program(str(folder_of_root / "folder/program"))
    with pytest.raises(ProgramRefused, match="is not there; install it"):
        open_program(str(folder_of_root / "absent"))
    with pytest.raises(ProgramRefused, match="is not a program"):
        open_program(str(folder_of_root))
    for mode, told in (
        (0o644, "is not a program"),
        (0o757, "changed by others"),
        (0o775, "changed by others"),
        (0o4755, "change its user"),
    ):
        program.chmod(mode)
        with pytest.raises(ProgramRefused, match=told):
            open_program(str(program))
    program.chmod(0o755)
    os.chown(program, 1234, 0)
    with pytest.raises(ProgramRefused, match="changed by others"):
        open_program(str(program))
    os.chown(program, 0, 0)
    folder_of_root.chmod(0o777)
    with pytest.raises(ProgramRefused, match="changed by others"):
        open_program(str(program))


def test_a_program_exchanged_after_the_check_is_not_what_runs(folder_of_root: Path) -> None:
    program = folder_of_root / "program"
    shutil.copy("/usr/bin/true", program)
    opened = open_program(str(program))
    inode = program.stat().st_ino
    (folder_of_root / "evil").write_text("#!/bin/sh\n")
    (folder_of_root / "evil").rename(program)
    try:
        assert os.fstat(opened).st_ino == inode
        assert stat.S_ISREG(os.fstat(opened).st_mode)
        assert program.stat().st_ino != inode
    finally:
        os.close(opened)


# -- curl --------------------------------------------------------------------------------------------------


async def curl(*arguments: str, private: bool = True) -> list[str]:
    return await web.checked("alpha", arguments, ["localhost"], 5, 1000, Egress(private_addresses=private))


async def test_curl_gets_one_url_and_the_address_that_was_checked() -> None:
    found = await curl("-s", "-H", "Accept: text/plain", "-d", "@/etc/passwd", "https://localhost:8443/a?b=c")
    assert found[0] == "--disable"
    assert found[found.index("--proto") + 1] == "=https"
    assert found[found.index("--resolve") + 1] in ("localhost:8443:127.0.0.1", "localhost:8443:[::1]")
    assert found[-6:] == ["--header", "Accept: text/plain", "--data-raw", "@/etc/passwd", "--url",
                          "https://localhost:8443/a?b=c"]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://localhost/"],
        ["file:///etc/passwd"],
        ["HTTPS://localhost/"],
        ["https://evil.example/"],
        ["https://localhost.evil.example/"],
        ["https://user:pw@localhost/"],
        ["https://evil.example\\@localhost/"],
        ["https://localhost/", "https://localhost/"],
        ["-o", "/tmp/x", "https://localhost/"],
        ["-O", "https://localhost/x"],
        ["-K", "x", "https://localhost/"],
        ["--config", "x", "https://localhost/"],
        ["-T", "/etc/passwd", "https://localhost/"],
        ["-F", "a=@/etc/passwd", "https://localhost/"],
        ["--data-binary", "@/etc/passwd", "https://localhost/"],
        ["-H", "@/etc/passwd", "https://localhost/"],
        ["-H", "a: b\r\nc: d", "https://localhost/"],
        ["-H", "Host: evil.example", "https://localhost/"],
        ["-H", "hOST:", "https://localhost/"],
        ["-H", "Host;evil.example:443", "https://localhost/"],
        ["-H", "Host;", "https://localhost/"],
        ["-H", "X;y: z", "https://localhost/"],
        ["-H", "Host : evil.example", "https://localhost/"],
        ["-H", " Host: evil.example", "https://localhost/"],
        ["-H", "X Host: evil.example", "https://localhost/"],
        ["-H", "Host\t: evil.example", "https://localhost/"],
        ["-H", ":authority: evil.example", "https://localhost/"],
        ["-H", "X: y\nHost: evil.example", "https://localhost/"],
        ["-H", "X: y\n", "https://localhost/"],
        ["-H", "@-", "https://localhost/"],
        ["-H", "@/etc/passwd: x", "https://localhost/"],
        ["-H", "Größe: x", "https://localhost/"],
        ["-H", "", "https://localhost/"],
        ["-x", "http://evil.example", "https://localhost/"],
        ["-L", "https://localhost/"],
        ["-k", "https://localhost/"],
        ["-so/tmp/x", "https://localhost/"],
        ["--resolve", "localhost:443:1.2.3.4", "https://localhost/"],
        ["--unix-socket", "/run/x", "https://localhost/"],
        ["https://{localhost,evil.example}/"],
        ["-X", "GET /\r\nX: y", "https://localhost/"],
        ["-s"],
        [],
    ],
)  # fmt: skip
async def test_curl_can_go_nowhere_else_and_touch_no_file(arguments: list[str]) -> None:
    with pytest.raises(ArgumentRefused, match=r"^curl: "):
        await curl(*arguments)


async def test_curl_cannot_reach_this_machine_unless_the_operator_says_so() -> None:
    with pytest.raises(EgressRefused, match="not on the public Internet"):
        await curl("https://localhost/", private=False)


@needs("/usr/bin/curl")
async def test_no_header_exchanges_the_host_that_curl_sends(tmp_path: Path) -> None:
    certificate(tmp_path, "localhost")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    requests: list[list[str]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    host = f"localhost:{server.sockets[0].getsockname()[1]}"
    passed = []
    async with server:
        for header in ("Host;evil.example:443", "Host :evil.example", "X: Host:y;z", "Accept:", "X: "):
            try:
                arguments = await curl("-s", "-H", header, f"https://{host}/")
            except ArgumentRefused:
                continue
            await run_curl(*arguments, "--cacert", str(tmp_path / "certificate.pem"))
            passed.append(header)
            assert [line for line in requests[-1] if line.lower().startswith("host")] == [f"Host: {host}"]
    assert passed == ["X: Host:y;z", "Accept:", "X: "]
    assert "X: Host:y;z" in requests[0]


async def run_curl(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec("/usr/bin/curl", *arguments, stdout=subprocess.DEVNULL)
    assert await process.wait() == 0


@needs("/usr/bin/curl")
async def test_curl_runs_with_the_network_and_nothing_else(office: Office) -> None:
    """The connection comes; that nobody speaks TLS at its end is what curl then says."""
    came = asyncio.Event()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await office.publish(
        "alpha",
        commands={"allowed": [{"path": "/usr/bin/curl", "hosts": ["localhost"]}], "timeoutSeconds": 5},
    )
    done = await office.call("a0", TOOL, command="/usr/bin/curl", args=["-s", f"https://localhost:{port}/"])
    assert done["exitCode"] == 35  # CURLE_SSL_CONNECT_ERROR
    assert came.is_set()
    server.close()
    await server.wait_closed()
