"""`core.linux.executeCommand`: no trick with arguments makes a listed program, the real one, touch a file."""

from pathlib import Path
from typing import Any

import pytest

from support.mcp_office import Office

TOOL = "core.linux.executeCommand"
FILE = "/etc/passwd"
READ_IT = f'split("{FILE} {FILE}", ARGV); ARGC=2'


async def run(office: Office, program: str, *arguments: str, stdin: str = "") -> dict[str, Any]:
    path = await allow(office, program)
    found: dict[str, Any] = await office.call("a0", TOOL, command=path, args=list(arguments), stdin=stdin)
    return found


async def allow(office: Office, program: str) -> str:
    path = f"/usr/bin/{program}"
    if not Path(path).exists():
        pytest.skip(f"{path} is not installed")
    await office.publish("alpha", commands={"allowed": [{"path": path}]})
    return path


ATTACKS: dict[str, list[list[str]]] = {
    # An option takes the operand's place, before it or behind it, and the operand names a file.
    "grep": [
        ["-e", "root", FILE],
        ["-eroot", FILE],
        ["-ie", "root", FILE],
        ["--regexp=root", FILE],
        ["--regexp", "root", FILE],
        ["--regex=root", FILE],
        [FILE, "-e", "root"],
        [FILE, "--regexp=root"],
    ],
    "sed": [
        ["-n", "-e", "1p", FILE],
        ["-ne", "1p", FILE],
        ["-ne1p", FILE],
        ["--expression=1p", FILE],
        ["--express=1p", FILE],
        [FILE, "-e", "1p"],
    ],
    "gawk": [
        # Its sandbox checks assignments only, and all of these put names elsewhere.
        [f"BEGIN{{{READ_IT}}} {{print}}"],
        [f"BEGIN{{f=\"split\"; @f(\"{FILE}\", ARGV); ARGC=2}} {{print}}"],
        [f'function f(a) {{split("{FILE}", a)}} BEGIN{{f(ARGV); ARGC=2}} {{print}}'],
        [f'BEGIN{{ARGV[1]="{FILE}"; ARGC=2}} {{print}}'],
        [f'BEGIN{{match("{FILE}", /.*/, ARGV)}} {{print}}'],
        [f'BEGIN{{patsplit("{FILE}", ARGV, /.*/); ARGC=2}} {{print}}'],
        [f'BEGIN{{a["{FILE}"]; asorti(a, ARGV); ARGC=2}} {{print}}'],
        [f'BEGIN{{split("{FILE}", SYMTAB["AR" "GV"]); ARGC=2}} {{print}}'],
        [f'@namespace "a"; BEGIN{{split("{FILE}", awk::ARGV); awk::ARGC=2}} {{print}}'],
        # What it says of a syntax error is the file's line.
        [f'@include "{FILE}"'],
        [f'@ \t include "{FILE}"'],
        [f'@\\\ninclude "{FILE}"'],
        [f'@\\\r\ninclude "{FILE}"'],
        [f'# comment\nBEGIN{{}} @include"{FILE}"'],
        [f'@load "{FILE}"'],
        ['@load "filefuncs"; BEGIN{chdir("/")}'],
        # It ends its options at the program; what follows is files.
        ["{print}", FILE],
        ["{print}", "--", FILE],
    ],
    "date": [
        ["-d", f'TZ=":{FILE}" 2000-01-01'],
        ["-d", f'TZ="{FILE}" 2000-01-01'],
        [f'--date= TZ="Europe/../../../..{FILE}" 2000-01-01'],
        ["-uf", FILE],
        ["-ur", FILE],
    ],
    "jq": [
        ["-n", 'import "passwd" as $d {search: "/etc"}; $d'],
        ["-n", 'import"passwd"as $d{search:"/etc"};$d'],
        ["-n", 'include "passwd" {search: "/etc"}; .'],
        ["-n", '#.\nimport "passwd" as $d {search: "/etc"}; $d'],
        ["-n", 'module {}; import "passwd" as $d {search: "/etc"}; $d'],
        ["-n", '"passwd" | modulemeta'],
        ["-n", "--args", ".", FILE],
        ["-n", "--jsonargs", ".", FILE],
        ["-n", "--rawfile", "a", FILE, "$a"],
        ["-n", "--rawf", "a", FILE, "$a"],
        ["-nf", FILE],
        ["-nL/etc", "."],
        ["-n", "--from-file", FILE],
        [".", "-n", FILE],
    ],
}  # fmt: skip


@pytest.mark.parametrize("program", ATTACKS)
async def test_no_argument_becomes_a_file(office: Office, program: str) -> None:
    path = await allow(office, program)
    for arguments in ATTACKS[program]:
        told = await office.refused("a0", TOOL, command=path, args=arguments)
        assert told.startswith(f"ARGUMENT_REFUSED: {program}: "), (arguments, told)


async def test_options_of_gawk_come_before_its_program(office: Office) -> None:
    """Behind it they would be files, which emptied arguments let it read."""
    done = await run(office, "gawk", "BEGIN{delete A[1]} {print $2}", "-F", FILE, stdin=f"a{FILE}b\n")
    assert (done["stdout"], done["exitCode"]) == ("b\n", 0)


SCRIPTS: dict[str, list[str]] = {
    "sed": ["1e id", "s/x/id/e", "s/x/id/me", f"r {FILE}", f"1R {FILE}", f"0r {FILE}",
            "w f", "1W f", "s/x/y/w f", "s/x/y/gw f"],
    "gawk": [
        'BEGIN{system("id")}',
        'BEGIN{"id" | getline; print}',
        'BEGIN{print "x" | "cat"}',
        f'BEGIN{{while ((getline line < "{FILE}") > 0) print line}}',
        'BEGIN{print "x" > "f"; print "written"}',
        'BEGIN{"/inet/tcp/0/127.0.0.1/22" |& getline; print "asked"}',
    ],
}  # fmt: skip


@pytest.mark.parametrize("program", SCRIPTS)
async def test_no_language_starts_reads_or_writes_anything(office: Office, program: str) -> None:
    """Each script would print something if it were let."""
    path = await allow(office, program)
    for script in SCRIPTS[program]:
        done = await office.call("a0", TOOL, command=path, args=[script], stdin="x\n")
        assert (done["exitCode"] != 0, done["stdout"]) == (True, ""), script
        assert done["stderr"].endswith(" in sandbox mode\n"), (script, done["stderr"])


@pytest.mark.parametrize(
    ("program", "arguments", "stdout"),
    [
        ("grep", ["b", "-n"], "2:b\n"),
        ("grep", ["-c", "-e", "a", "--regexp", "b"], "2\n"),
        ("sed", ["1d", "-s"], "b\n"),
        ("sed", ["-ne", "1p", "--expression=2p"], "a\nb\n"),
        ("gawk", ['/@x/ {print "ARG"} {print $1}', "-vx=1"], "a\nb\n"),
        ("date", ["-d", 'TZ="Asia/Tokyo" 2000-01-01 09:00', "-u", "+%F %R"], "2000-01-01 00:00\n"),
        ("jq", ["-n", "--indent=1", "[1]"], "[\n 1\n]\n"),
        ("jq", ["[., .import?]", "-cnr"], "[null,null]\n"),
        # These sound of files, and there are none.
        ("gawk", ["-v", f"ARGC={FILE}", "{print}"], "a\nb\n"),
        ("jq", ["-nc", "input_filename, ($ENV | keys)"], 'null\n["HOME","LANG","PATH","TMPDIR"]\n'),
    ],
)
async def test_what_was_meant_still_runs(
    office: Office, program: str, arguments: list[str], stdout: str
) -> None:
    done = await run(office, program, *arguments, stdin="a\nb\n")
    assert (done["stdout"], done["stderr"], done["exitCode"]) == (stdout, "", 0)
