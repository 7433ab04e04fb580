"""Serve a single request in a process of its own: the child of a fork, or a fresh interpreter.

The process gets one Unix socket, its channel. Over it comes one frame (marshal: the fastest way in that
needs no import, and the sender is the runner itself) and goes one answer (JSON, which the receiver passes
on unread: what comes out of a handler's process is never unmarshalled).

Part of the interpreter mode's boot path.
"""

import fcntl
import marshal
import posix
import sys
from _signal import SIGKILL  # type: ignore[import-not-found]

from .invoking import Invoker
from .limits import apply_request
from .loading import Loader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CHANNEL = 3
"""The channel's file descriptor in every process that serves a single request."""

F_SETSIG = 10
"""Linux's, which `fcntl` has no name for."""

HEADER_BYTES = 6
"""An answer begins with its HTTP status (2 bytes) and its length (4), both little-endian."""


def frame(settings: "dict[str, Any]", request: "dict[str, Any]") -> bytes:
    """What is sent to a process that serves a single request."""
    body = marshal.dumps((settings, request))
    return len(body).to_bytes(4, "little") + body


def serve(loader: Loader | None = None) -> "NoReturn":
    """Read a request from the channel, run it, answer, and end this process without any cleanup.

    `loader` holds what a warm parent has imported already; a fresh interpreter has none.
    """
    size = int.from_bytes(_read_exactly(4), "little")
    settings, request = marshal.loads(_read_exactly(size))  # noqa: S302 - the sender is the runner itself
    _die_with_channel()
    apply_request(settings["limits"])
    if loader is None:
        loader = Loader(settings["trees"], settings["environment"])
    invoker = Invoker(loader, settings["limits"]["maxOutputBytes"], settings["limits"]["timeoutMs"])
    invoker.install()
    status, body = invoker.answer(request)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S112 - the handler closed or replaced it; its answer is due all the same
            continue
    fcntl.fcntl(CHANNEL, fcntl.F_SETFL, 0)  # Room for more of the answer would be signalled as well.
    _write(status.to_bytes(2, "little") + len(body).to_bytes(4, "little") + body)
    # Not exit(): threads the handler left behind, and its atexit functions, are not waited for.
    posix._exit(0)


def _die_with_channel() -> None:
    """Have the kernel kill this process when the runner's end of the channel closes.

    The runner may itself be killed at any moment, and no handler may run on without it. Data would raise
    the signal too, so this must come after the request was read; nothing follows it.
    """
    fcntl.fcntl(CHANNEL, fcntl.F_SETOWN, posix.getpid())
    fcntl.fcntl(CHANNEL, F_SETSIG, SIGKILL)
    fcntl.fcntl(CHANNEL, fcntl.F_SETFL, fcntl.FASYNC | posix.O_NONBLOCK)
    try:
        posix.read(CHANNEL, 1)
        posix._exit(0)  # It closed before the signal was asked for.
    except BlockingIOError:
        return


def _read_exactly(size: int) -> bytes:
    parts = []
    while size:
        part = posix.read(CHANNEL, size)
        if not part:
            posix._exit(0)  # The runner is gone, and with it whoever wanted the answer.
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[posix.write(CHANNEL, view) :]
