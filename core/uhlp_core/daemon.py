"""What every daemon does around its own work: event loop, logging, signals, an end with its supervisor."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Awaitable, Callable

import uvloop

from uhlp_core.settings import Settings
from uhlp_core.telemetry import set_up_logging

_PR_SET_PDEATHSIG = 1

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


def end_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent process dies, however it dies.

    A supervisor that was killed must not leave daemons behind that a new one would start a second time.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
