"""The main process's side of zygotes: start one for a tree, and have it start handlers' processes."""

import asyncio
import json
import socket
from collections.abc import Sequence
from typing import Any, NoReturn

from . import children, failure, once, worker, zygote
from .failure import Failure
from .languages import ParentLost
from .output import Collector, Label, Log
from .seat import Seat
from .slot import Slot


class Python:
    """Python's processes: forks of a zygote, fresh interpreters, and persistent workers."""

    is_interruptible = True

    def __init__(self, settings: dict[str, Any], log: Log) -> None:
        self._settings = settings
        self._log = log

    def parent(self, tree: str, components: Sequence[dict[str, Any]], fresh: bool) -> "Zygote":
        """A zygote that imports the handlers of `tree` as it starts."""
        return Zygote(self._settings, self._log, tree, components, fresh)

    def work(self, slot: Slot) -> NoReturn:
        """Be a persistent worker, in a process that `children.start` made."""
        worker.run(self._settings, slot)


class Zygote:
    """The runner's end of one zygote."""

    def __init__(
        self, settings: dict[str, Any], log: Log, tree: str, components: Sequence[dict[str, Any]], fresh: bool
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._log = log
        self._turn = asyncio.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self.active = 0
        self.retired = False
        outputs = [Collector(log, stream, Label, lambda size: None) for stream in ("stdout", "stderr")]
        self._outputs = outputs
        self.pid = children.start(
            lambda: zygote.run(settings, tree, components, fresh),
            [theirs.fileno()],
            outputs[0].write_end,
            outputs[1].write_end,
        )
        theirs.close()
        for output in outputs:
            output.close_write_end()

    async def report(self) -> list[dict[str, Any]]:
        """What was wrong with the handlers. Raises ParentLost."""
        report: list[dict[str, Any]] = json.loads(await self._receive(1 << 20))
        return report

    async def start(self) -> Seat:
        """A process that waits for its request. Raises ParentLost, Failure."""
        seat = Seat(self._log)
        try:
            seat.pid = await self._start(seat.descriptors)
        finally:
            seat.hand_over()
            if not seat.pid:
                seat.close()
        return seat

    async def _start(self, descriptors: Sequence[int]) -> int:
        async with self._turn:
            try:
                socket.send_fds(self._control, [b"S"], descriptors)
            except OSError as error:
                raise ParentLost(str(error)) from None
            reply = await self._receive(zygote.PACKET_BYTES * 4)
        if reply.startswith(b"!"):
            why = f"no process for the handler: {reply[1:].decode()}; maxProcesses may be too low"
            raise Failure(failure.PROCESS_LIMIT_EXCEEDED, why)
        return int(reply)

    def frame(self, request: dict[str, Any]) -> bytes:
        """The request as its process reads it from its channel."""
        return once.frame(self._settings, request)

    async def reap(self, pid: int) -> int:
        """The wait status of a process that has ended. Raises ParentLost."""
        async with self._turn:
            try:
                self._control.send(b"R%d" % pid)
            except OSError as error:
                raise ParentLost(str(error)) from None
            return int(await self._receive(zygote.PACKET_BYTES))

    def close(self) -> None:
        """End the zygote and all it still has running."""
        if self._control.fileno() >= 0:
            self._control.close()
            children.kill_group(self.pid)
            children.reap(self.pid)
            for output in self._outputs:
                output.drain()

    async def _receive(self, size: int) -> bytes:
        try:
            data = await self._loop.sock_recv(self._control, size)
        except OSError:
            data = b""
        if not data:
            raise ParentLost("the process that starts handlers has ended")
        return data
