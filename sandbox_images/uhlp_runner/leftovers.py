"""End whatever a handler left running: its children, theirs, and those that fled into another session."""

import os
import signal
from collections.abc import Collection
from dataclasses import dataclass

PROC = "/proc"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses, with all that descends from it."""

    processes: int
    rss_bytes: int
    cpu_seconds: float


def _stats() -> dict[int, list[bytes]]:
    """The fields of /proc/<pid>/stat after the name, by pid, of every process that can be seen."""
    found = {}
    for entry in os.listdir(PROC):  # noqa: PTH208 - a Path per process is what this must not cost
        if entry.isdigit():
            try:
                with open(f"{PROC}/{entry}/stat", "rb") as file:  # noqa: PTH123
                    text = file.read()
            except OSError:
                continue  # It ended while we looked.
            # The name is in parentheses and may itself contain spaces and parentheses.
            found[int(entry)] = text[text.rindex(b")") + 2 :].split()
    return found


def children_of(parent: int) -> list[int]:
    """The pids of a process's children."""
    return [pid for pid, fields in _stats().items() if int(fields[1]) == parent]


def is_running(pid: int) -> bool:
    """Whether a process, which must not have been reaped, has yet to end."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:  # noqa: PTH123
            text = file.read()
    except OSError:
        return False
    return text[text.rindex(b")") + 2 :].split(b" ", 1)[0] not in (b"Z", b"X")


def usage(root: int) -> Usage:
    """What a process and its descendants use now; CPU includes children that were reaped."""
    stats = _stats()
    family = [root]
    for member in family:
        family.extend(pid for pid, fields in stats.items() if int(fields[1]) == member)
    own = [stats[pid] for pid in family if pid in stats]
    return Usage(
        processes=len(own),
        rss_bytes=sum(int(fields[21]) for fields in own) * os.sysconf("SC_PAGE_SIZE"),
        cpu_seconds=sum(sum(map(int, fields[11:15])) for fields in own) / os.sysconf("SC_CLK_TCK"),
    )


def kill_descendants(known: Collection[int] = ()) -> None:
    """SIGKILL and reap every child of this process that is not `known`, until there is none.

    This process must adopt orphans: what a killed child had started then becomes its child, and is next.
    """
    while unknown := [pid for pid in children_of(os.getpid()) if pid not in known]:
        for pid in unknown:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                continue


def tasks_of(user: int) -> int:
    """How many processes and threads a user has now."""
    count = 0
    for entry in os.listdir(PROC):  # noqa: PTH208
        try:
            if entry.isdigit() and os.stat(f"{PROC}/{entry}").st_uid == user:  # noqa: PTH116
                count += len(os.listdir(f"{PROC}/{entry}/task"))  # noqa: PTH208
        except OSError:
            continue
    return count
