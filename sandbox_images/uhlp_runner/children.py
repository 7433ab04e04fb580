"""Start a child of the runner's main process by fork, with nothing of the parent's but what it needs."""

import asyncio
import errno
import fcntl
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import confine, leftovers

FIRST_INHERITED = 3
"""What a child is given begins here, after its standard streams."""

FIRST_LOOK_SECONDS = 0.001
LAST_LOOK_SECONDS = 0.05
"""Between two looks at whether a process has ended, where nothing tells of it: the first, and the longest."""

known: set[int] = set()
"""The children of this process that are its own; any other was left behind by a handler."""


def start(target: Callable[[], NoReturn], inherited: Sequence[int], out: int, err: int) -> int:
    """Fork a child in a session of its own that runs `target`; it dies with this process.

    `inherited` become its descriptors from FIRST_INHERITED on, `out` and `err` its standard streams; every
    other descriptor is closed. Returns its pid.
    """
    sys.stdout.flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        known.add(child)
        return child
    try:
        os.setsid()
        confine.die_with(parent)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(out, 1)
        os.dup2(err, 2)
        # By way of high numbers: a target may be the number of one that is still to be moved.
        aside = [fcntl.fcntl(fd, fcntl.F_DUPFD, FIRST_INHERITED + len(inherited)) for fd in inherited]
        for index, fd in enumerate(aside):
            os.dup2(fd, FIRST_INHERITED + index)
        os.closerange(FIRST_INHERITED + len(inherited), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        target()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


async def exit_of(pid: int) -> None:
    """Wait until a process has ended, without reaping it."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        await _watch(pid)
        return
    ended = loop.create_future()
    loop.add_reader(descriptor, lambda: None if ended.done() else ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _watch(pid: int) -> None:
    """The same where the kernel has no pidfd, as gVisor's: looks again and again, soon at first."""
    pause = FIRST_LOOK_SECONDS
    while leftovers.is_running(pid):
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_LOOK_SECONDS)


def has_ended(pid: int) -> bool:
    """Whether a child has ended; it is not reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill_group(pid: int) -> None:
    """SIGKILL a session's leader, which must not have been reaped, and all of its process group."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def reap(pid: int) -> int:
    """The wait status of a child that has ended."""
    known.discard(pid)
    return os.waitpid(pid, 0)[1]
