"""How many calls of one app are under way at the same time; further ones wait their turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from uhlp_mcp.llm.errors import TooBusy

MAX_WAITING = 200
"""Calls of one app that wait; each holds its question in memory."""


@dataclass(slots=True)
class _Queue:
    limit: int
    free: asyncio.Semaphore
    inside: int = 0
    """Calls under way or waiting."""


class Slots:
    """The queues of all apps."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def one(self, app: str, limit: int) -> AsyncIterator[None]:
        """Wait for a slot of the app and hold it. Raises TooBusy if too many wait already."""
        queue = self._queues.get(app)
        if queue is None or queue.limit != limit:
            # Calls in the queue of an older limit go on by that one.
            queue = self._queues[app] = _Queue(limit, asyncio.Semaphore(limit))
        if queue.inside >= limit + MAX_WAITING:
            raise TooBusy(f"{MAX_WAITING} calls of the app are waiting already (`llm.maxConcurrency`)")
        queue.inside += 1
        try:
            async with queue.free:
                yield
        finally:
            queue.inside -= 1
            if not queue.inside and self._queues.get(app) is queue:
                del self._queues[app]
