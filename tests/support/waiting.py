"""Waiting for a condition, never for a time: the one place where tests pause."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

DEADLINE = 30.0
"""Seconds until a condition counts as never coming true; in health nothing waits nearly as long."""

PAUSE = 0.005


def wait_until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """The first true value of `condition`; fails with `what` if it never comes."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"never happened within {deadline:.0f} s: {what}")
        threading.Event().wait(PAUSE)
    return value


async def eventually(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """The same on an event loop; `condition` may be a coroutine function."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"never happened within {deadline:.0f} s: {what}")
        await asyncio.sleep(PAUSE)
