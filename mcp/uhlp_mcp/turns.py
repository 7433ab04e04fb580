"""How many calls of one app are under way at the same time; further ones wait their turn.

What all apps share (threads, programs, models) is so never held by one app alone, however much it asks for.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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
    """The calls of one app.

    Invariant: none waits whose limit is above the number of those inside. So of equal limits the first comes
    first, and one with a small limit keeps nobody waiting but itself.
    """

    inside: int = 0
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)
    """Each with its limit; whoever completes the future has counted it as inside."""

    async def enter(self, limit: int) -> None:
        """Wait until fewer than `limit` are inside, and be one of them. Raises TooManyWaiting."""
        if self.inside < limit:
            self.inside += 1
            return
        if len(self.waiting) >= MAX_WAITING:
            raise TooManyWaiting(f"{MAX_WAITING} calls of the app are waiting already")
        place = (limit, asyncio.get_running_loop().create_future())
        self.waiting.append(place)
        try:
            await place[1]
        except asyncio.CancelledError:
            if place in self.waiting:
                self.waiting.remove(place)
            else:
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place to the first whose limit leaves room."""
        self.inside -= 1
        for place in self.waiting:
            limit, turn = place
            if self.inside < limit and not turn.cancelled():
                self.inside += 1
                self.waiting.remove(place)
                turn.set_result(None)
                return


class Turns:
    """The queues of all apps."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def one(self, app: str, limit: int) -> AsyncIterator[None]:
        """Wait for one of the app's `limit` places and hold it. Raises TooManyWaiting.

        Deployments of one app may name different limits: never more are inside than the largest of them.
        """
        queue = self._queues.setdefault(app, _Queue())
        try:
            await queue.enter(limit)
            try:
                yield
            finally:
                queue.leave()
        finally:
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
