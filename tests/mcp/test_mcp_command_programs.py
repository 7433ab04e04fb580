"""`core.linux.executeCommand`: whose file may be run, and that the file that was checked is what runs."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mcp_office import Office
from support.waiting import eventually
from uhlp_mcp.commands.program import ProgramRefused, open_program
from uhlp_mcp.commands.tool import MAX_OF_APP

TOOL = "core.linux.executeCommand"
BASH = "/usr/bin/bash"
OTHER = 1234
"""A user who is neither root nor the daemon's."""


@pytest.fixture
def folder_of_root() -> Iterator[Path]:
    """One where only root can change anything, and that programs see."""
    if os.geteuid() != 0:
        pytest.skip("makes programs that belong to root")
    folder = Path(tempfile.mkdtemp(prefix="uhlp-test-", dir="/usr/local/lib"))
    folder.chmod(0o755)
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
        (0o4755, "change its user"),
        (0o2755, "change its user"),
    ):
        program.chmod(mode)
        with pytest.raises(ProgramRefused, match=told):
            open_program(str(program))


def test_a_program_that_others_could_exchange_is_refused(folder_of_root: Path) -> None:
    """It itself, or a folder on the way to it."""
    program = folder_of_root / "bin" / "program"
    program.parent.mkdir(mode=0o755)
    shutil.copy("/usr/bin/true", program)
    for step in (program, program.parent, folder_of_root):
        for mode in (0o775, 0o757, 0o1777):
            step.chmod(mode)
            assert refusal(program) == (
                f"{program} could be exchanged: {step} is writable by its group or by others; "
                f"chmod go-w {step}"
            )
        step.chmod(0o755)
        os.chown(step, OTHER, 0)
        assert refusal(program) == (
            f"{program} could be exchanged: {step} belongs to user {OTHER}; it must belong to root, "
            "or to the user that the platform runs as"
        )
        os.chown(step, 0, 0)
    os.close(open_program(str(program)))


def test_a_daemon_that_is_not_root_may_run_its_own_users_programs(folder_of_root: Path) -> None:
    program = folder_of_root / "program"
    shutil.copy("/usr/bin/true", program)
    os.chown(program, OTHER, 0)
    os.seteuid(OTHER)
    try:
        os.close(open_program(str(program)))
    finally:
        os.seteuid(0)
    os.seteuid(OTHER + 1)
    try:
        assert f"{program} belongs to user {OTHER}" in refusal(program)
    finally:
        os.seteuid(0)


def refusal(program: Path) -> str:
    with pytest.raises(ProgramRefused) as refused:
        open_program(str(program))
    return str(refused.value)


async def test_a_program_exchanged_after_the_check_is_not_what_runs(
    office: Office, folder_of_root: Path
) -> None:
    """Between the two it may wait for others of its app: time enough for whoever can write there."""
    program, go = folder_of_root / "program", folder_of_root / "go"
    shutil.copy("/usr/bin/echo", program)
    await office.publish("alpha", commands={"allowed": [{"path": BASH}, {"path": str(program)}]})
    until = f"until [ -e {go} ]; do sleep 0.01; done"
    async with asyncio.TaskGroup() as calls:
        for _ in range(MAX_OF_APP):
            calls.create_task(office.call("a0", TOOL, command=BASH, args=["-c", until]))
        await eventually(lambda: len(opened(BASH)) == MAX_OF_APP, "the app has its turns")
        waits = calls.create_task(office.call("a0", TOOL, command=str(program), args=["what was checked"]))
        await eventually(lambda: opened(str(program)), "it is checked")
        shutil.copy("/usr/bin/true", folder_of_root / "other")
        (folder_of_root / "other").rename(program)
        go.touch()
    done = waits.result()
    assert (done["exitCode"], done["stdout"], done["stderr"]) == (0, "what was checked\n", "")


def opened(path: str) -> list[Path]:
    """What of this process, which is the daemon's, has it open."""
    return [link for link in Path("/proc/self/fd").iterdir() if os.path.realpath(link) == path]
