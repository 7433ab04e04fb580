"""Processes as /proc shows them, named so that a recycled pid is never mistaken for the one meant."""

import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
KILL_MS = 5000
"""How long the kernel may take to end what was killed; a process in an uninterruptible wait takes longer."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc: `started` (in ticks since boot) with the pid names a process for good."""

    pid: int
    parent: int
    session: int
    state: str
    started: int
    cpu_seconds: float
    """Its own, and of those children of its that were reaped."""
    rss_bytes: int


def read(pid: int) -> Process | None:
    """The process with this pid; None if there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in parentheses and may itself contain spaces and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    return Process(
        pid=pid,
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        cpu_seconds=sum(map(int, fields[11:15])) / _TICKS,
        started=int(fields[19]),
        rss_bytes=int(fields[21]) * _PAGE,
    )


def is_running(pid: int, started: int) -> bool:
    """Whether that very process still runs. A zombie does not."""
    process = read(pid)
    return process is not None and process.started == started and process.state not in "ZX"


def await_end(pid: int, started: int) -> None:
    """Block until that very process, which was killed, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Between a look and the pidfd the pid may have changed hands.
        if is_running(pid, started):
            waiter = select.poll()
            waiter.register(descriptor, select.POLLIN)
            waiter.poll(KILL_MS)
    finally:
        os.close(descriptor)


def everything() -> Iterator[Process]:
    """Every process there is."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (process := read(int(entry.name))):
            yield process


def tree(pid: int) -> list[Process]:
    """A process and all that descends from it, parents first."""
    children: dict[int, list[Process]] = {}
    root = None
    for process in everything():
        children.setdefault(process.parent, []).append(process)
        if process.pid == pid:
            root = process
    found = [root] if root else []
    for process in found:
        found.extend(children.get(process.pid, ()))
    return found


def family(pid: int) -> list[Process]:
    """As `tree`, for a fraction of its cost; may miss who is just starting or has just lost its parent."""
    root = read(pid)
    found = [root] if root else []
    for process in found:
        for children in (PROC / str(process.pid) / "task").glob("*/children"):
            try:
                pids = children.read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.extend(child for child in map(read, map(int, pids)) if child)
    return found


def kill(process: Process) -> None:
    """SIGKILL that very process, if it still runs."""
    if is_running(process.pid, process.started):
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def started_with(argument: str) -> list[Process]:
    """The processes that have exactly this among their arguments and whose parent has not."""
    wanted = os.fsencode(argument)
    found = {}
    for process in everything():
        try:
            arguments = (PROC / str(process.pid) / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if wanted in arguments:
            found[process.pid] = process
    return [process for process in found.values() if process.parent not in found]
