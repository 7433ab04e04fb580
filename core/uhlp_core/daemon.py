"""What every daemon does around its own work: event loop, logging, signals, an end with its supervisor."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import uvloop

from uhlp_core.settings import Settings
from uhlp_core.telemetry import set_up_logging

_PR_SET_PDEATHSIG = 1

CANCEL_AGAIN_SECONDS = 0.5
"""How long a cancelled task may take before it is told again."""

Main = Callable[[Settings, asyncio.Event], Awaitable[None]]
"""A daemon: works until the event is set, then ends cleanly."""


def run(name: str, main: Main, settings: Settings) -> None:
    """Run a daemon in this process until SIGTERM or SIGINT."""
    set_up_logging(name, settings)

    async def supervised() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await main(settings, stop)

    uvloop.run(supervised())


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end; again and again, since the Redis client can swallow it."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
        for task in done:
            _ = task.cancelled() or task.exception()  # Looked at, so that nobody warns of it.


def end_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent process dies, however it dies.

    A supervisor that was killed must not leave daemons behind that a new one would start a second time.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
