"""Wait, without polling, until a process that is not our child has ended."""

import asyncio
import os

from . import procfs


async def ended(pid: int, started: int) -> None:
    """Return once the process with this pid and start time does not run (any more)."""
    if not procfs.is_running(pid, started):
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Between the look and the pidfd the pid may have changed hands.
        if procfs.is_running(pid, started):
            await _readable(descriptor)
    finally:
        os.close(descriptor)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
