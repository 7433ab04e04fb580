"""The main process's side of zygotes: start one for a tree, and have it start handlers' processes."""

import asyncio
import json
import socket
from collections.abc import Sequence
from typing import Any

from . import children, failure, zygote
from .failure import Failure
from .output import Collector, Label, Log


class ImportFailed(Exception):
    """A revision's handlers cannot be imported. `problems` is what `POST /prepare` answers."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(problems[0]["message"])
        self.problems = problems


class ZygoteLost(Exception):
    """The zygote ended, or its socket did."""


class Zygote:
    """The runner's end of one zygote."""

    def __init__(
        self, settings: dict[str, Any], log: Log, tree: str, components: Sequence[dict[str, Any]], fresh: bool
    ) -> None:
        self._loop = asyncio.get_running_loop()
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
        """What was wrong with the handlers. Raises ZygoteLost."""
        report: list[dict[str, Any]] = json.loads(await self._receive(1 << 20))
        return report

    async def start(self, descriptors: Sequence[int]) -> int:
        """Start a process with these as channel, stdout and stderr; its pid. Raises ZygoteLost, Failure."""
        async with self._turn:
            try:
                socket.send_fds(self._control, [b"S"], descriptors)
            except OSError as error:
                raise ZygoteLost(str(error)) from None
            reply = await self._receive(zygote.PACKET_BYTES * 4)
        if reply.startswith(b"!"):
            why = f"no process for the handler: {reply[1:].decode()}; maxProcesses may be too low"
            raise Failure(failure.PROCESS_LIMIT_EXCEEDED, why)
        return int(reply)

    async def reap(self, pid: int) -> int:
        """The wait status of a process that has ended. Raises ZygoteLost."""
        async with self._turn:
            try:
                self._control.send(b"R%d" % pid)
            except OSError as error:
                raise ZygoteLost(str(error)) from None
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
            raise ZygoteLost("the process that starts handlers has ended")
        return data


async def hatch(
    settings: dict[str, Any], log: Log, tree: str, components: Sequence[dict[str, Any]], fresh: bool
) -> Zygote:
    """A zygote that has imported the handlers of `tree`. Raises ImportFailed, also where importing hangs."""
    candidate = Zygote(settings, log, tree, components, fresh)
    timeout = settings["limits"]["timeoutMs"] / 1000
    try:
        async with asyncio.timeout(timeout):
            problems = await candidate.report()
    except TimeoutError:
        why = f"importing the handlers took longer than {timeout:g} s; do less when a module is imported"
        problems = _all_failed(components, why)
    except ZygoteLost:
        why = "importing the handlers ended the process (os._exit, a signal, or too much memory)"
        problems = _all_failed(components, why)
    if problems:
        candidate.close()
        raise ImportFailed(problems)
    return candidate


def _all_failed(components: Sequence[dict[str, Any]], why: str) -> list[dict[str, Any]]:
    # With no component known it is the start as such that failed, which must not pass for success.
    known = components or [{"componentId": None, "script": None}]
    return [zygote.problem(component, None, why) for component in known]
