"""Whether the kernel killed a process because the container as a whole ran out of memory.

A process killed so looks like any other that ended by SIGKILL; but the container's cgroup counts such kills.
"""

import os
import signal

from . import failure
from .failure import Failure

EVENTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
"""Where cgroups of version 2 and 1 count them, as seen from inside."""

READ_BYTES = 4096
"""Either file has a few short lines."""


class OomKills:
    """The count of such kills. Made before the runner shuts itself in, after which it could not be opened."""

    def __init__(self) -> None:
        self._descriptor = next(map(_opened, filter(os.path.exists, EVENTS)), None)
        self._explained = self._count()

    def explain(self, status: int, last_words: bytes) -> Failure:
        """Why a handler's process ended before it had answered, by its wait status and standard error."""
        if (
            os.WIFSIGNALED(status)
            and os.WTERMSIG(status) == signal.SIGKILL
            and self._count() > self._explained
        ):
            self._explained += 1  # Each kill explains one end.
            return failure.out_of_memory()
        return failure.ended(status, last_words)

    def _count(self) -> int:
        if self._descriptor is None:
            return 0
        lines = os.pread(self._descriptor, READ_BYTES, 0).decode().splitlines()
        counts = dict(line.split(" ", 1) for line in lines)
        return int(counts.get("oom_kill", 0))


def _opened(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
