"""End whatever a handler left running: its children, theirs, and those that fled into another session."""

import os
import signal
from collections.abc import Collection

PROC = "/proc"


def children_of(parent: int) -> list[int]:
    """The pids of a process's children."""
    found = []
    for entry in os.listdir(PROC):  # noqa: PTH208 - a Path per process is what this must not cost
        if entry.isdigit():
            try:
                with open(f"{PROC}/{entry}/stat", "rb") as file:  # noqa: PTH123
                    text = file.read()
            except OSError:
                continue  # It ended while we looked.
            # The name is in parentheses and may itself contain spaces and parentheses.
            if int(text[text.rindex(b")") + 2 :].split(None, 2)[1]) == parent:
                found.append(int(entry))
    return found


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
