"""Fork and interpreter mode: each request in a process of its own, started by a zygote.

A zygote belongs to one tree. The last few trees' zygotes are kept warm; an older one is started again
when somebody asks for its tree.
"""

import asyncio
import contextlib
import os
import socket
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from . import children, failure, once
from .config import Config
from .failure import Failure
from .invoking import failure_body
from .output import Collector, Label, Log
from .zygotes import ImportFailed, Zygote, ZygoteLost, hatch

KEPT_TREES = 4
"""Zygotes kept warm: the revision served, the one before, and two on their way."""

REMEMBERED_TREES = 64
"""Trees whose components are remembered, so that an evicted zygote can be started again as warm."""

KILL_GRACE_SECONDS = 0.25
"""Between the timeout a handler can see, which leaves a traceback in the log, and SIGKILL."""

SIGXCPU = 24


class Jobs:
    """Runs requests, each in its own process, and keeps the zygotes they come from."""

    def __init__(self, config: Config, settings: dict[str, Any], log: Log) -> None:
        self._config = config
        self._log = log
        self._settings = settings
        self._zygotes: OrderedDict[str, Zygote] = OrderedDict()
        self._components: OrderedDict[str, Sequence[dict[str, Any]]] = OrderedDict()
        self._starting: dict[str, asyncio.Task[list[dict[str, Any]]]] = {}
        self._running: set[Job] = set()
        self._served = 0

    @property
    def prepared(self) -> list[str]:
        """Trees whose handlers are imported."""
        return list(self._zygotes)

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
        if tree in self._zygotes and self._components.get(tree) == components:
            self._zygotes.move_to_end(tree)
            return []
        try:
            candidate = await hatch(
                self._settings, self._log, tree, components, self._config.mode == "interpreter"
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
        job = Job(self._config, self._log, request)
        self._running.add(job)
        try:
            return await job.run(await self._zygote(tree), self._settings)
        except Failure as failed:
            return 500, failure_body(request_id, failed)
        except ImportFailed as failed:
            return 500, failure_body(request_id, Failure(failure.HANDLER_EXCEPTION, str(failed)))
        except ZygoteLost:
            self._retire(self._zygotes.pop(tree, None))
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
        """End every zygote."""
        for parent in self._zygotes.values():
            parent.close()
        self._zygotes.clear()

    async def _zygote(self, tree: str) -> Zygote:
        parent = self._zygotes.get(tree)
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
            parent = self._zygotes[tree]
        self._zygotes.move_to_end(tree)
        return parent

    def _keep(self, tree: str, parent: Zygote) -> None:
        self._retire(self._zygotes.pop(tree, None))
        self._zygotes[tree] = parent
        while len(self._zygotes) > KEPT_TREES:
            self._retire(self._zygotes.popitem(last=False)[1])

    def _retire(self, parent: Zygote | None) -> None:
        if parent is not None:
            parent.retired = True
            if not parent.active:
                parent.close()


class Job:
    """One request in its own process: what it is told, what it answers, and its end."""

    def __init__(self, config: Config, log: Log, request: dict[str, Any]) -> None:
        self._request = request
        self.request_id: str = request["requestId"]
        self._limits = config.limits
        context = request["context"]
        self._timeout_ms = context.get("timeoutMs") or self._limits["timeoutMs"]
        label = Label(request["requestId"], context.get("componentId"), context.get("revision"))
        self._printed = 0
        self._outputs = [
            Collector(log, stream, lambda: label, self._count) for stream in ("stdout", "stderr")
        ]
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[tuple[int, bytes] | None] = self._loop.create_future()
        self._received = bytearray()

    def stop(self, why: Failure) -> None:
        """End the process; `why` is what the caller is told."""
        if not self._answer.done():
            self._answer.set_exception(why)

    async def run(self, parent: Zygote, settings: dict[str, Any]) -> tuple[int, bytes]:
        """Run the request in a process from `parent`. Raises Failure."""
        channel, theirs = socket.socketpair()
        channel.setblocking(False)
        parent.active += 1
        pid = 0
        answer: tuple[int, bytes] | None = None
        try:
            try:
                pid = await parent.start([theirs.fileno(), *(output.write_end for output in self._outputs)])
            finally:
                theirs.close()
                for output in self._outputs:
                    output.close_write_end()
            timer = self._loop.call_later(
                self._timeout_ms / 1000 + KILL_GRACE_SECONDS, self.stop, failure.timed_out(self._timeout_ms)
            )
            try:
                self._loop.add_reader(channel, self._on_readable, channel)
                # It may end before it has read its request; the end of the channel says so.
                with contextlib.suppress(OSError):
                    await self._loop.sock_sendall(channel, once.frame(settings, self._request))
                answer = await self._answer
            finally:
                timer.cancel()
                self._loop.remove_reader(channel)
                channel.close()
        finally:
            status = await self._end(parent, pid)
        if self._printed > self._limits["maxOutputBytes"]:
            raise failure.too_much_output(self._limits["maxOutputBytes"])
        if answer is not None:
            return answer
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == SIGXCPU:
            why = f"the handler used up its {self._limits['cpuSeconds']} s of CPU time"
            raise Failure(failure.HANDLER_TIMEOUT, why)
        raise failure.ended(status)

    async def _end(self, parent: Zygote, pid: int) -> int:
        """Leave nothing of the process behind; its wait status."""
        try:
            if not pid:
                return 0
            children.kill_group(pid)
            await children.exit_of(pid)
            return await parent.reap(pid)
        finally:
            for output in self._outputs:
                output.drain()
            parent.active -= 1
            if parent.retired and not parent.active:
                parent.close()

    def _on_readable(self, channel: socket.socket) -> None:
        try:
            data = channel.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if self._answer.done():
            return
        if not data:
            self._answer.set_result(None)
            return
        self._received += data
        head = once.HEADER_BYTES
        if len(self._received) < head:
            return
        status = int.from_bytes(self._received[:2], "little")
        size = int.from_bytes(self._received[2:head], "little")
        if status not in (200, 500) or size > 2 * self._limits["maxOutputBytes"] + ENVELOPE_BYTES:
            self._answer.set_result(None)
        elif len(self._received) >= head + size:
            self._answer.set_result((status, bytes(self._received[head : head + size])))

    def _count(self, size: int) -> None:
        self._printed += size
        if self._printed > self._limits["maxOutputBytes"]:
            self.stop(failure.too_much_output(self._limits["maxOutputBytes"]))


ENVELOPE_BYTES = 65536
"""What an answer may have around its result: the metrics above all."""
