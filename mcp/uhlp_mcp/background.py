"""Work that is not lost with whoever asked for it, and that an answer need not wait for."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

GIVE_WAY_SECONDS = 0.001
"""That what is left behind lets the answer go first, through the processes that pass it on."""

_log = logging.getLogger(__name__)


class Background:
    """Tasks under way; what goes wrong in them is logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._left: dict[Coroutine[Any, Any, None], asyncio.TimerHandle] = {}

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin `work`. Whoever awaits the task does so behind `asyncio.shield`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def leave(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin `work` in a moment, when the answer is on its way, or as soon as `finish` waits for it."""
        self._left[work] = asyncio.get_running_loop().call_later(GIVE_WAY_SECONDS, self._begin, work)

    @property
    def is_idle(self) -> bool:
        return not (self._left or self._tasks)

    async def finish(self) -> None:
        """Wait until all that was left and begun before this call is done."""
        for work, timer in list(self._left.items()):
            timer.cancel()
            self._begin(work)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        del self._left[work]
        self.start(work)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("what a call leaves behind is not done with: %r", error)
