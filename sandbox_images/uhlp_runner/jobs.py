"""Fork and interpreter mode: each request in a process of its own, which a parent starts.

A parent belongs to one tree. The last few trees' parents are kept warm; an older one is started again
when somebody asks for its tree.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from . import children, failure
from .config import Config
from .failure import Failure
from .invoking import failure_body
from .languages import ImportFailed, Language, Parent, ParentLost, hatch
from .oom import OomKills
from .output import Label
from .seat import ENVELOPE_BYTES, Answer, Seat

KEPT_TREES = 4
"""Parents kept warm: the revision served, the one before, and two on their way."""

REMEMBERED_TREES = 64
"""Trees whose components are remembered, so that an evicted parent can be started again as warm."""

KILL_GRACE_SECONDS = 0.25
"""Between the timeout a handler can see, which leaves a traceback in the log, and SIGKILL."""

SIGXCPU = 24


class Jobs:
    """Runs requests, each in its own process, and keeps the parents they come from."""

    def __init__(self, config: Config, language: Language, kills: OomKills) -> None:
        self._config = config
        self._kills = kills
        self._language = language
        self._parents: OrderedDict[str, Parent] = OrderedDict()
        self._components: OrderedDict[str, Sequence[dict[str, Any]]] = OrderedDict()
        self._starting: dict[str, asyncio.Task[list[dict[str, Any]]]] = {}
        self._running: set[Job] = set()
        self._served = 0

    @property
    def prepared(self) -> list[str]:
        """Trees whose handlers are imported."""
        return list(self._parents)

    @property
    def lanes(self) -> list[dict[str, Any]]:
        """As `GET /readyz` answers them."""
        return [{"socket": "execute.sock", "capacity": self._config.concurrency, "serves": "JIT"}]

    @property
    def served(self) -> int:
        """Requests answered so far."""
        return self._served

    @property
    def active(self) -> int:
        """Requests whose processes have not all ended."""
        return len(self._running)

    async def prepare(self, tree: str, components: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Import the handlers of a tree; what is wrong with them."""
        if tree in self._parents and self._components.get(tree) == components:
            self._parents.move_to_end(tree)
            return []
        try:
            candidate = await hatch(
                self._language,
                tree,
                components,
                self._config.mode == "interpreter",
                self._config.limits["timeoutMs"],
            )
        except ImportFailed as failed:
            return failed.problems
        self._keep(tree, candidate)
        self._components[tree] = components
        self._components.move_to_end(tree)
        while len(self._components) > REMEMBERED_TREES:
            self._components.popitem(last=False)
        return []

    async def execute(self, request: dict[str, Any], body: bytes) -> tuple[int, bytes]:
        """Run one request in its own process: HTTP status and body."""
        request_id = request["requestId"]
        tree = request["context"]["tree"]
        job = Job(self._config, request, self._kills)
        self._running.add(job)
        try:
            return await job.run(await self._parent(tree))
        except Failure as failed:
            return 500, failure_body(request_id, failed)
        except ImportFailed as failed:
            return 500, failure_body(request_id, Failure(failure.HANDLER_EXCEPTION, str(failed)))
        except ParentLost:
            self._retire(self._parents.pop(tree, None))
            lost = Failure(failure.HANDLER_CRASHED, "the process that starts handlers ended; try again")
            return 500, failure_body(request_id, lost)
        finally:
            self._running.discard(job)
            self._served += 1

    def cancel(self, request_id: str) -> bool:
        """Stop a request's handler; False if there is no such request."""
        jobs = [job for job in self._running if job.request_id == request_id]
        for job in jobs:
            job.stop(failure.cancelled())
        return bool(jobs)

    async def outcome(self, request_id: str) -> Failure | None:
        """Always None: on this lane, which is the main process's, a request's caller is told itself."""
        return None

    async def close(self) -> None:
        """End every parent."""
        for parent in self._parents.values():
            parent.close()
        self._parents.clear()

    async def _parent(self, tree: str) -> Parent:
        parent = self._parents.get(tree)
        if parent is None:
            # One start for all who wait for it. A revision nobody prepared runs too, only colder.
            task = self._starting.get(tree)
            if task is None:
                task = asyncio.create_task(self.prepare(tree, self._components.get(tree, ())))
                self._starting[tree] = task
                task.add_done_callback(lambda _: self._starting.pop(tree))
            problems = await asyncio.shield(task)
            if problems:
                raise ImportFailed(problems)
            parent = self._parents[tree]
        self._parents.move_to_end(tree)
        return parent

    def _keep(self, tree: str, parent: Parent) -> None:
        self._retire(self._parents.pop(tree, None))
        self._parents[tree] = parent
        while len(self._parents) > KEPT_TREES:
            self._retire(self._parents.popitem(last=False)[1])

    def _retire(self, parent: Parent | None) -> None:
        if parent is not None:
            parent.retired = True
            if not parent.active:
                parent.close()


class Job:
    """One request in its own process: what it is told, what it answers, and its end."""

    def __init__(self, config: Config, request: dict[str, Any], kills: OomKills) -> None:
        self._request = request
        self._kills = kills
        self.request_id: str = request["requestId"]
        self._limits = config.limits
        self._timeout_ms = request["context"].get("timeoutMs") or self._limits["timeoutMs"]
        self._printed = 0
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Answer] = self._loop.create_future()

    def stop(self, why: Failure) -> None:
        """End the process; `why` is what the caller is told."""
        if not self._answer.done():
            self._answer.set_exception(why)

    async def run(self, parent: Parent) -> tuple[int, bytes]:
        """Run the request in a process from `parent`. Raises Failure."""
        parent.active += 1
        try:
            seat = await parent.start()
            try:
                answer = await self._exchange(seat, parent.frame(self._request))
            finally:
                status = await _end(seat, parent)
        finally:
            parent.active -= 1
            if parent.retired and not parent.active:
                parent.close()
        if self._printed > self._limits["maxOutputBytes"]:
            raise failure.too_much_output(self._limits["maxOutputBytes"])
        if answer is not None:
            return answer
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == SIGXCPU:
            why = f"the handler used up its {self._limits['cpuSeconds']} s of CPU time"
            raise Failure(failure.HANDLER_TIMEOUT, why)
        raise self._kills.explain(status, seat.last_words)

    async def _exchange(self, seat: Seat, frame: bytes) -> Answer:
        """Send the request and wait for its answer, or for what comes before it. Raises Failure."""
        context = self._request["context"]
        seat.label = Label(self.request_id, context.get("componentId"), context.get("revision"))
        seat.on_output = self._count
        timer = self._loop.call_later(
            self._timeout_ms / 1000 + KILL_GRACE_SECONDS, self.stop, failure.timed_out(self._timeout_ms)
        )
        try:
            await seat.ask(frame, 2 * self._limits["maxOutputBytes"] + ENVELOPE_BYTES, self._answer)
            return await self._answer
        finally:
            timer.cancel()
            seat.hang_up()

    def _count(self, size: int) -> None:
        self._printed += size
        if self._printed > self._limits["maxOutputBytes"]:
            self.stop(failure.too_much_output(self._limits["maxOutputBytes"]))


async def _end(seat: Seat, parent: Parent) -> int:
    """Leave nothing of a process behind; its wait status."""
    try:
        children.kill_group(seat.pid)
        await children.exit_of(seat.pid)
        return await parent.reap(seat.pid)
    finally:
        seat.close()
