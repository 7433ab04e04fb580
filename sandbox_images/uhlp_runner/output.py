"""What handlers print, as JSON lines in the app's log (`docs/architecture.md`, "The runner's doors").

A collector reads one pipe. The runner reads it and not the handler's process, so that what was printed
before a crash, by a subprocess or straight to the descriptor is logged as well.
"""

import asyncio
import fcntl
import json
import os
import termios
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

READ_BYTES = 65536
LINE_LIMIT = 16384
"""Bytes of one log line; a longer one is cut into several, so that no reader needs more memory."""

TAIL_BYTES = 8192
"""What is kept of the last output: a runtime that aborts says why, and prints its own stack after that."""

SDK_MARK = b"\x1e"
"""Begins a line of `uhlp_sdk.log`: the level and the message (JSON text) follow."""

_LEVELS = frozenset(("debug", "info", "warning", "error"))


@dataclass(frozen=True, slots=True)
class Label:
    """Whose line it is."""

    request_id: str | None = None
    component: str | None = None
    commit: str | None = None


class Log:
    """Writes the app's log: one JSON object a line, each in a single write so that writers never mix."""

    def __init__(self, descriptor: int, identity: dict[str, str]) -> None:
        self._descriptor = descriptor
        self._identity = identity

    def write(self, level: str, stream: str, message: str, label: Label | None = None) -> None:
        """Add a line. `stream` is stdout, stderr or runner."""
        label = label or Label()
        line = {
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "stream": stream,
            **self._identity,
            "commit": label.commit,
            "component": label.component,
            "requestId": label.request_id,
            "message": message,
        }
        try:
            os.write(self._descriptor, json.dumps(line).encode() + b"\n")
        except OSError:
            # A full disk must not take the application down with its log.
            return


class Collector:
    """Reads one pipe into the log until it is closed at the other end, or `close` is called.

    `whose` is asked for the label *before* each read: with a persistent worker, which starts no request
    before its pipes are empty, the bytes then read belong to exactly that request.
    """

    def __init__(
        self, log: Log, stream: str, whose: Callable[[], Label], on_bytes: Callable[[int], None]
    ) -> None:
        self._log = log
        self._stream = stream
        self._whose = whose
        self._on_bytes = on_bytes
        self._rest = b""
        self._label = Label()
        self.tail = b""
        """The last TAIL_BYTES that came."""
        self._loop = asyncio.get_running_loop()
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self._loop.add_reader(self.read_end, self.read)

    def read(self) -> None:
        """Log what is in the pipe now."""
        if self.read_end < 0:
            return
        label = self._whose()
        if label != self._label:
            self._end_line()
            self._label = label
        try:
            data = os.read(self.read_end, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._on_bytes(len(data))
        self.tail = (self.tail + data)[-TAIL_BYTES:]
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._emit(line)
        while len(self._rest) > LINE_LIMIT:
            self._emit(self._rest[:LINE_LIMIT])
            self._rest = self._rest[LINE_LIMIT:]

    def read_all(self) -> None:
        """Log all that is in the pipe now."""
        while self.read_end >= 0 and pending(self.read_end):
            self.read()

    def drain(self) -> None:
        """Log all that is in the pipe now and close it, whoever still holds the other end."""
        # Once, which empties a pipe: what fled its request and still writes must not keep us here.
        if self.read_end >= 0 and pending(self.read_end):
            self.read()
        self.close()

    def close(self) -> None:
        """Stop reading; a last line without an end is logged as well."""
        if self.read_end < 0:
            return
        self._loop.remove_reader(self.read_end)
        os.close(self.read_end)
        self.read_end = -1
        self._end_line()

    def close_write_end(self) -> None:
        """The other end is with the process that writes; this one would keep the pipe open."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def _end_line(self) -> None:
        if self._rest:
            self._emit(self._rest)
            self._rest = b""

    def _emit(self, line: bytes) -> None:
        level = "info" if self._stream == "stdout" else "error"
        text = line.decode(errors="replace")
        if line.startswith(SDK_MARK):
            marked, _, encoded = text[1:].partition(" ")
            if marked in _LEVELS:
                level, text = marked, _decoded(encoded)
        while text:
            self._log.write(level, self._stream, text[:LINE_LIMIT], self._label)
            text = text[LINE_LIMIT:]


def pending(descriptor: int) -> int:
    """Bytes waiting in a pipe."""
    buffer = bytearray(4)
    fcntl.ioctl(descriptor, termios.FIONREAD, buffer)
    return int.from_bytes(buffer, "little")


def _decoded(encoded: str) -> str:
    try:
        text = json.loads(encoded)
    except ValueError:
        return encoded
    return text if isinstance(text, str) else encoded
