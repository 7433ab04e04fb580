"""JavaScript's processes: a Node.js for each request, started ahead in fork mode, and persistent workers.

Node cannot fork, so what is warm is a process that has imported a revision's handlers and waits for its
one request; another is started as soon as it is taken. The scripts that Node runs lie in `node/`.
"""

import asyncio
import json
import os
import resource
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import children, confine, failure
from .failure import Failure
from .languages import ParentLost
from .limits import lower, lower_cpu
from .output import Log
from .seat import ENVELOPE_BYTES, Answer, Seat
from .slot import Slot

SCRIPTS = Path(__file__).with_name("node")

NODE_THREADS = 12
"""Threads of one Node process: its own, V8's, libuv's pool, the signal watcher. Eight as measured."""

NODE_BYTES = 160 << 20
"""What Node needs beyond the heap that --max-old-space-size bounds: its threads' stacks (57 MiB, hardly
touched), the young generation (48 MiB) and room to collect in. So a heap meets V8's limit first."""

NODE_FILES = 32
"""Open files that Node has for itself."""

SPARES = 2
"""Processes of one tree that wait for a request: about 10 MB each beyond the program they share."""

MEBIBYTE = 1 << 20


class Node:
    """JavaScript, run by the Node.js at `program`."""

    is_interruptible = False

    def __init__(self, program: str, settings: dict[str, Any], log: Log) -> None:
        self._program = program
        self._settings = settings
        self._limits: dict[str, int] = settings["limits"]
        self._log = log

    def parent(self, tree: str, components: Sequence[dict[str, Any]], fresh: bool) -> "Nursery":
        """Where the processes for `tree` come from."""
        return Nursery(self, tree, components, fresh)

    def work(self, slot: Slot) -> NoReturn:
        """Be a persistent worker, in a process that `children.start` made."""
        lower(resource.RLIMIT_NPROC, self._limits["processes"])
        self._execute("worker.mjs")

    def spawn(self) -> Seat:
        """Start a process that serves one request. Raises Failure where there is no room for it."""
        seat = Seat(self._log)
        channel, out, err = seat.descriptors
        try:
            seat.pid = children.start(self._serve_once, [channel], out, err)
        except OSError as error:
            why = f"no process for the handler: {error}; maxProcesses may be too low"
            raise Failure(failure.PROCESS_LIMIT_EXCEEDED, why) from None
        finally:
            seat.hand_over()
            if not seat.pid:
                seat.close()
        return seat

    async def prepare(
        self, seat: Seat, tree: str, components: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Have a process import handlers; what is wrong with them. Raises ParentLost if it has ended."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await seat.ask(frame({"tree": tree, "components": components}), ENVELOPE_BYTES, answer)
        received = await answer
        if received is None:
            raise ParentLost("the process ended while it imported the handlers")
        # Only now, when all of Node's own threads are there: it would not survive to miss one.
        processes = self._limits["processes"]
        resource.prlimit(seat.pid, resource.RLIMIT_NPROC, (processes, processes))
        problems: list[dict[str, Any]] = json.loads(received[1])
        return problems

    def _serve_once(self) -> NoReturn:
        lower_cpu(self._limits["cpuSeconds"])
        self._execute("once.mjs")

    def _execute(self, script: str) -> NoReturn:
        """Become Node. Its heap has V8's limit; what lies outside the heap, the kernel's."""
        confine.scope_handlers(self._settings["writable"])
        memory = self._limits["memoryBytes"]
        lower(resource.RLIMIT_DATA, memory + NODE_BYTES)
        lower(resource.RLIMIT_NOFILE, self._limits["maxOpenFiles"] + NODE_FILES)
        told = {
            "trees": self._settings["trees"],
            "environment": self._settings["environment"],
            "timeoutMs": self._limits["timeoutMs"],
            "maxOutputBytes": self._limits["maxOutputBytes"],
        }
        options = [
            f"--max-old-space-size={memory // MEBIBYTE}",
            "--v8-pool-size=1",
            "--experimental-vm-modules",
            "--experimental-import-meta-resolve",
            "--no-warnings",
        ]
        arguments = [self._program, *options, str(SCRIPTS / script), json.dumps(told)]
        os.execv(self._program, arguments)  # noqa: S606 - no shell is wanted


class Nursery:
    """The processes for one tree."""

    def __init__(self, node: Node, tree: str, components: Sequence[dict[str, Any]], fresh: bool) -> None:
        self._node = node
        self._tree = tree
        self._components = components
        self._fresh = fresh
        self._seats: set[Seat] = set()
        self._spares: deque[Seat] = deque()
        self._filling: asyncio.Task[None] | None = None
        self.active = 0
        self.retired = False

    async def report(self) -> list[dict[str, Any]]:
        """Import the handlers; what is wrong with them. Raises ParentLost."""
        seat = self._spawn()
        problems = await self._node.prepare(seat, self._tree, self._components)
        if self._fresh or problems:
            self._end(seat)
        else:
            self._spares.append(seat)
            self._refill()
        return problems

    async def start(self) -> Seat:
        """A process that waits for its request. Raises Failure."""
        while self._spares:
            seat = self._spares.popleft()
            self._seats.discard(seat)
            if not children.has_ended(seat.pid):
                for output in seat.outputs:
                    output.read_all()  # What importing printed is nothing of the request's.
                self._refill()
                return seat
            self._end(seat)
        seat = self._spawn()
        components = () if self._fresh else self._components
        try:
            await self._node.prepare(seat, self._tree, components)
        except ParentLost:
            self._end(seat)
            raise Failure(failure.HANDLER_CRASHED, "the handler's process ended as it started") from None
        except BaseException:
            self._end(seat)
            raise
        self._seats.discard(seat)
        return seat

    def frame(self, request: dict[str, Any]) -> bytes:
        """The request as its process reads it from its channel."""
        return frame(request)

    async def reap(self, pid: int) -> int:
        """The wait status of a process that has ended."""
        return children.reap(pid)

    def close(self) -> None:
        """End all processes that have no request."""
        if self._filling is not None:
            self._filling.cancel()
        for seat in list(self._seats):
            self._end(seat)

    def _spawn(self) -> Seat:
        seat = self._node.spawn()
        self._seats.add(seat)
        return seat

    def _end(self, seat: Seat) -> None:
        self._seats.discard(seat)
        children.kill_group(seat.pid)
        children.reap(seat.pid)
        seat.close()

    def _refill(self) -> None:
        """See that enough processes wait, without waiting for them."""
        if not self.retired and (self._filling is None or self._filling.done()):
            self._filling = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        while len(self._spares) < SPARES and not self.retired:
            try:
                seat = self._spawn()
            except Failure:
                return  # No room now: a request starts its own process then, and is told if it cannot.
            try:
                await self._node.prepare(seat, self._tree, self._components)
            except ParentLost:
                self._end(seat)
                return
            self._spares.append(seat)


def frame(message: dict[str, Any]) -> bytes:
    """A message as `once.mjs` reads it from its channel."""
    body = json.dumps(message).encode()
    return len(body).to_bytes(4, "little") + body
