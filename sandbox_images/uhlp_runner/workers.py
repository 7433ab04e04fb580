"""Server mode, seen from the main process: the workers' lanes, their lives, and how their requests ended."""

import asyncio
import json
import os
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import children, failure, http1, worker, zygote
from .config import Config
from .failure import Failure
from .invoking import failure_body
from .languages import ImportFailed, Language, hatch
from .leftovers import kill_descendants
from .oom import OomKills
from .output import Collector, Log
from .slot import Slot

KEPT_TREES = 4
"""Revisions whose modules workers keep: the one served, the one before, and two on their way."""

KEPT_OUTCOMES = 256
"""How many requests that ended with their worker are remembered for `GET /outcome`."""

HARD_GRACE_SECONDS = 1.0
"""How far a request may overstay its deadline, at which it was interrupted, before its worker is killed."""

CHECK_SECONDS = 0.25
"""Between two looks at the deadlines: a bound on how much later than its grace a worker is killed."""

LOAD_PATIENCE_SECONDS = 1.0
"""How long a new revision waits for workers that are in the middle of a request. They import it when they are
free; that it can be imported is known by then."""

REAP_SECONDS = 2.0
"""How long a worker that hung up may take to end and be reaped."""

RESPAWN_PAUSE_SECONDS = 0.2
"""Before a worker is started again that ended without serving anything, lest it does nothing else."""


class Lane:
    """One worker after the other, on one socket that outlives them all."""

    def __init__(self, config: Config, language: Language, log: Log, number: int, workers: "Workers") -> None:
        self.name = f"w{number}.sock"
        self.path = Path(config.dir) / self.name
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(worker.BACKLOG_MAX)
        self._language = language
        self._grace = HARD_GRACE_SECONDS if language.is_interruptible else 0.0
        self._limit = config.limits["maxOutputBytes"]
        self._log = log
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._acks: dict[str, asyncio.Future[str]] = {}
        self._printed: tuple[str | None, int] = (None, 0)
        self._killed: Failure | None = None
        self._closing = False
        self.slot = Slot()
        self.is_relaying = False
        self.pid = 0
        self.lives = asyncio.create_task(self._live())

    async def load(self, tree: str, components: Sequence[dict[str, Any]]) -> str:
        """Have the worker import a revision; what went wrong, or nothing."""
        ack = self._acks.get(tree)
        if ack is None:
            ack = self._acks[tree] = self._loop.create_future()
            self._tell({"do": "load", "tree": tree, "components": components})
        return await asyncio.shield(ack)

    def runs(self, request_id: str) -> bool:
        """Whether the worker says that it is at this request."""
        return bool(self.slot.deadline) and self.slot.label.request_id == request_id

    def forget(self, tree: str) -> None:
        """Have the worker drop a revision."""
        self._tell({"do": "forget", "tree": tree})

    def drain(self) -> None:
        """Let the worker finish its request and end."""
        self._closing = True
        self._tell({"do": "drain"})

    def kill(self, why: Failure) -> None:
        """End the worker now; `why` is what its request's caller is told."""
        self._killed = self._killed or why
        children.kill_group(self.pid)

    def check(self, now: float) -> None:
        """Kill the worker if its request has overstayed."""
        deadline = self.slot.deadline
        if deadline and now > deadline + self._grace:
            self.kill(Failure(failure.HANDLER_TIMEOUT, "the handler ran past its timeout and did not stop"))

    async def _live(self) -> None:
        """Keep a worker on this lane, one after the other, until it is closed."""
        while not self._closing:
            began = time.monotonic()
            try:
                status = await self._one_life()
            except OSError as error:
                self._log.write("error", "runner", f"{self.name}: a worker could not be started: {error}")
                await asyncio.sleep(RESPAWN_PAUSE_SECONDS)
                continue
            kill_descendants(children.known)
            if self.slot.deadline:
                failed = self._killed or self._workers.kills.explain(status, self._outputs[1].tail)
                self._workers.note(self.slot.label.request_id, failed)
                self.slot.end()
            elif not self._closing and time.monotonic() - began < RESPAWN_PAUSE_SECONDS:
                await asyncio.sleep(RESPAWN_PAUSE_SECONDS)
        self._listener.close()
        self.path.unlink(missing_ok=True)

    async def _one_life(self) -> int:
        """Start a worker and wait for its end; its wait status. Raises OSError."""
        self._killed = None
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        self._said = b""
        self._outputs = outputs = [
            Collector(self._log, stream, lambda: self.slot.label, self._count)
            for stream in ("stdout", "stderr")
        ]
        looking = [output.read_end for output in outputs]
        try:
            self.pid = children.start(
                lambda: self._language.work(self.slot),
                [theirs.fileno(), self._listener.fileno(), *looking, self.slot.descriptor],
                outputs[0].write_end,
                outputs[1].write_end,
            )
            theirs.close()
            for output in outputs:
                output.close_write_end()
            self._loop.add_reader(self._control, self._listen)
            for tree, components in self._workers.revisions.items():
                self._tell({"do": "load", "tree": tree, "components": components})
            await children.exit_of(self.pid)
            children.kill_group(self.pid)
            return children.reap(self.pid)
        finally:
            self._loop.remove_reader(self._control)
            self._control.close()
            theirs.close()
            for output in outputs:
                output.close_write_end()
                output.drain()

    def _tell(self, order: dict[str, Any]) -> None:
        line = json.dumps(order).encode() + b"\n"
        try:
            sent = self._control.send(line)
        except OSError:
            return  # It has just ended; the next one is told everything at its start.
        if sent < len(line):
            children.kill_group(self.pid)  # It reads no orders, and half a line would garble the next.

    def _listen(self) -> None:
        try:
            said = self._control.recv(worker.CONTROL_BYTES)
        except OSError:
            return
        *lines, self._said = (self._said + said).split(b"\n")
        if not said or len(self._said) > worker.CONTROL_BYTES:
            self._loop.remove_reader(self._control)
        for line in lines:
            if line == worker.COLLECT:
                for output in self._outputs:
                    output.read_all()
                self._tell({"do": "go on"})
                continue
            tree, _, why = line.decode(errors="replace").partition(" ")
            ack = self._acks.pop(tree, None)
            if ack is not None and not ack.done():
                ack.set_result(why)

    def _count(self, size: int) -> None:
        request_id = self.slot.label.request_id
        whose, printed = self._printed
        self._printed = (request_id, (printed if whose == request_id else 0) + size)
        if self._printed[1] > self._limit and self.slot.deadline:
            self.kill(failure.too_much_output(self._limit))


class Workers:
    """All lanes of an instance in server mode."""

    def __init__(self, config: Config, language: Language, log: Log, kills: OomKills) -> None:
        self.kills = kills
        self._language = language
        self._timeout_ms = config.limits["timeoutMs"]
        self._outcomes: OrderedDict[str, Failure] = OrderedDict()
        self.revisions: OrderedDict[str, Sequence[dict[str, Any]]] = OrderedDict()
        self._lanes = [Lane(config, language, log, number, self) for number in range(config.concurrency)]
        self._endings: dict[str, asyncio.Future[Failure]] = {}
        self._checks = asyncio.create_task(self._check())

    @property
    def lanes(self) -> list[dict[str, Any]]:
        """As `GET /readyz` answers them."""
        return [{"socket": lane.name, "capacity": 1, "serves": "JIT"} for lane in self._lanes]

    @property
    def prepared(self) -> list[str]:
        """Trees whose handlers every worker has imported."""
        return list(self.revisions)

    @property
    def served(self) -> int:
        """Requests answered so far."""
        return sum(lane.slot.served for lane in self._lanes)

    @property
    def active(self) -> int:
        """Requests that run now."""
        return sum(1 for lane in self._lanes if lane.slot.deadline)

    async def prepare(self, tree: str, components: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Import a tree's handlers in a throwaway process, then in every worker; what is wrong with them."""
        if self.revisions.get(tree) == components:
            self.revisions.move_to_end(tree)
            return []
        try:
            probe = await hatch(self._language, tree, components, True, self._timeout_ms)
        except ImportFailed as failed:
            return failed.problems
        probe.close()
        self.revisions[tree] = components
        self.revisions.move_to_end(tree)
        loading = [asyncio.create_task(lane.load(tree, components)) for lane in self._lanes]
        loaded, busy = await asyncio.wait(loading, timeout=LOAD_PATIENCE_SECONDS)
        for task in busy:
            task.cancel()
        why = next((task.result() for task in loaded if task.result()), None)
        if why is not None:
            self._drop(tree)
            return [zygote.problem(component, None, why) for component in components]
        while len(self.revisions) > KEPT_TREES:
            self._drop(next(iter(self.revisions)))
        return []

    async def execute(self, request: dict[str, Any], body: bytes) -> tuple[int, bytes]:
        """Relay a request that came to `execute.sock` to a free worker: HTTP status and body."""
        free = [lane for lane in self._lanes if not lane.is_relaying]
        lane = next((lane for lane in free if not lane.slot.deadline), free[0])
        request_id = request["requestId"]
        ending = self._endings[request_id] = asyncio.get_running_loop().create_future()
        lane.is_relaying = True
        try:
            reader, writer = await asyncio.open_unix_connection(lane.path)
            try:
                writer.write(b"POST /execute HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                head = await reader.readuntil(b"\r\n\r\n")
                answer = await reader.readexactly(http1.content_length(head[:-2].lower()))
                return int(head.split(b" ", 2)[1]), answer
            finally:
                writer.close()
        except (OSError, EOFError):
            # The worker has ended, and what became of the request is known once it has been reaped.
            try:
                async with asyncio.timeout(REAP_SECONDS):
                    failed = await ending
            except TimeoutError:
                failed = Failure(failure.HANDLER_CRASHED, "the handler's worker hung up; try again")
            return 500, failure_body(request_id, failed)
        finally:
            lane.is_relaying = False
            self._endings.pop(request_id, None)

    def cancel(self, request_id: str) -> bool:
        """Stop a request's handler; False if there is no such request."""
        for lane in self._lanes:
            if lane.runs(request_id):
                if not self._language.is_interruptible:
                    lane.kill(failure.cancelled())
                    return True
                lane.slot.cancel(request_id)
                os.kill(lane.pid, signal.SIGUSR1)
                asyncio.get_running_loop().call_later(
                    HARD_GRACE_SECONDS, self._end_cancelled, lane, request_id
                )
                return True
        return False

    async def outcome(self, request_id: str) -> Failure | None:
        """How a request ended whose worker did; None if unknown.

        A worker's lane hangs up a moment before its end has been noticed here.
        """
        if request_id not in self._outcomes and any(lane.runs(request_id) for lane in self._lanes):
            ending = self._endings.setdefault(request_id, asyncio.get_running_loop().create_future())
            await asyncio.wait([ending], timeout=REAP_SECONDS)
            self._endings.pop(request_id, None)
        return self._outcomes.get(request_id)

    def note(self, request_id: str | None, outcome: Failure) -> None:
        """Remember how a request ended."""
        if request_id is not None:
            self._outcomes[request_id] = outcome
            ending = self._endings.get(request_id)
            if ending is not None and not ending.done():
                ending.set_result(outcome)
            while len(self._outcomes) > KEPT_OUTCOMES:
                self._outcomes.popitem(last=False)

    async def close(self) -> None:
        """Let every worker finish what it runs and end."""
        for lane in self._lanes:
            lane.drain()
        await asyncio.gather(*(lane.lives for lane in self._lanes))
        self._checks.cancel()

    def _drop(self, tree: str) -> None:
        del self.revisions[tree]
        for lane in self._lanes:
            lane.forget(tree)

    def _end_cancelled(self, lane: Lane, request_id: str) -> None:
        if lane.runs(request_id):
            lane.kill(failure.cancelled())

    async def _check(self) -> None:
        """Level-triggered: whatever else failed to stop a request, this does."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            now = time.monotonic()
            for lane in self._lanes:
                lane.check(now)
