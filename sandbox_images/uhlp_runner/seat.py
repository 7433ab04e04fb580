"""What a process that serves one request is tied to: its channel, and the pipes of its output."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from . import once
from .output import Collector, Label, Log

ENVELOPE_BYTES = 65536
"""What an answer may have around its result: the metrics above all."""

Answer = tuple[int, bytes] | None
"""HTTP status and body; None if the process hung up before it had given one, or spoke no sense."""


class Seat:
    """The runner's ends of one such process."""

    def __init__(self, log: Log) -> None:
        self._loop = asyncio.get_running_loop()
        self.channel, self._theirs = socket.socketpair()
        self.channel.setblocking(False)
        self._received = bytearray()
        self.pid = 0
        self.label = Label()
        """Of the request; until there is one, what the process prints belongs to none."""
        self.on_output: Callable[[int], None] = _uncounted
        """Told how many bytes were printed."""
        self.outputs = [
            Collector(log, stream, lambda: self.label, lambda size: self.on_output(size))
            for stream in ("stdout", "stderr")
        ]

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """The process's ends: channel, stdout, stderr."""
        out, err = self.outputs
        return self._theirs.fileno(), out.write_end, err.write_end

    @property
    def last_words(self) -> bytes:
        """The end of what the process wrote to its standard error."""
        return self.outputs[1].tail

    def hand_over(self) -> None:
        """The process has its ends now; here they would keep channel and pipes open."""
        self._theirs.close()
        for output in self.outputs:
            output.close_write_end()

    async def ask(self, frame: bytes, limit: int, answer: asyncio.Future[Answer]) -> None:
        """Send a frame and resolve `answer` with what comes back; `limit` is in bytes of the body."""
        self._loop.add_reader(self.channel, self._on_readable, limit, answer)
        # It may end before it has read its request; the end of the channel says so.
        with contextlib.suppress(OSError):
            await self._loop.sock_sendall(self.channel, frame)

    def hang_up(self) -> None:
        """Take no answer any more."""
        if self.channel.fileno() >= 0:
            self._loop.remove_reader(self.channel)
            self.channel.close()

    def close(self) -> None:
        """Log what is left in the pipes and let go of everything."""
        self.hand_over()
        self.hang_up()
        for output in self.outputs:
            output.drain()

    def _on_readable(self, limit: int, answer: asyncio.Future[Answer]) -> None:
        try:
            data = self.channel.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self._received += data
        status, size = self._head()
        if not data or (status and (status not in (200, 500) or size > limit)):
            self._resolve(answer, None)
        elif status and len(self._received) >= once.HEADER_BYTES + size:
            end = once.HEADER_BYTES + size
            body = bytes(self._received[once.HEADER_BYTES : end])
            del self._received[:end]
            self._resolve(answer, (status, body))

    def _head(self) -> tuple[int, int]:
        """Status and length of the answer that is coming in; zeros until they have come."""
        head = self._received[: once.HEADER_BYTES]
        if len(head) < once.HEADER_BYTES:
            return 0, 0
        return int.from_bytes(head[:2], "little"), int.from_bytes(head[2:], "little")

    def _resolve(self, answer: asyncio.Future[Answer], received: Answer) -> None:
        self._loop.remove_reader(self.channel)
        if not answer.done():
            answer.set_result(received)


def _uncounted(size: int) -> None:
    """Before its request a process may print what it likes."""
