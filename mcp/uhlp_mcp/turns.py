"""How many calls of one app are under way at the same time; further ones wait their turn.

What all apps share (threads, programs, models) is so never held by one app alone, however much it asks for.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from uhlp_core.errors import UhlpError

MAX_WAITING = 200
"""Calls of one app that wait; each holds its arguments in memory."""

T = TypeVar("T")


class TooManyWaiting(UhlpError):
    """So many calls of the app wait already that one more would only fill memory."""

    code = "TOO_MANY_CALLS"
    retry_after = 1.0


@dataclass(slots=True)
class _Queue:
    limit: int
    free: asyncio.Semaphore
    inside: int = 0
    """Calls under way or waiting."""


class Turns:
    """The queues of all apps."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def one(self, app: str, limit: int) -> AsyncIterator[None]:
        """Wait for one of the app's `limit` places and hold it. Raises TooManyWaiting."""
        queue = self._queues.get(app)
        if queue is None or queue.limit != limit:
            # Calls in the queue of an older limit go on by that one.
            queue = self._queues[app] = _Queue(limit, asyncio.Semaphore(limit))
        if queue.inside >= limit + MAX_WAITING:
            raise TooManyWaiting(f"{MAX_WAITING} calls of the app are waiting already")
        queue.inside += 1
        try:
            async with queue.free:
                yield
        finally:
            queue.inside -= 1
            if not queue.inside and self._queues.get(app) is queue:
                del self._queues[app]

    async def run(self, app: str, limit: int, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work`, which cannot be cancelled, in one of the app's `limit` places. Raises TooManyWaiting.

        Its place stays taken until it ends, also when nobody waits for it any more: a thread goes on whatever
        becomes of its caller.
        """
        started = False

        async def held() -> T:
            nonlocal started
            async with self.one(app, limit):
                started = True
                return await work()

        task = asyncio.ensure_future(held())
        try:
            return await asyncio.shield(task)
        finally:
            if not started:
                task.cancel()
