"""Server mode: a persistent worker with a lane of its own, one request at a time, without an event loop.

The hot path of the platform. Whatever can be done once is done once: between a request's arrival and its
answer lie one `epoll_wait`, one `recv`, the handler and one `send`.
"""

import contextlib
import gc
import os
import select
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Any, NoReturn

from . import confine, http1
from .children import FIRST_INHERITED
from .http1 import BadRequest
from .invoking import Invoker, describe
from .leftovers import kill_descendants
from .limits import apply_handler
from .loading import Loader
from .output import pending
from .request import Malformed, loads, parse
from .slot import Original, Slot

CONTROL, LISTENER, OUT, ERR = range(FIRST_INHERITED, FIRST_INHERITED + 4)
"""What a worker is given: its control socket, its lane, and the *reading* ends of its output pipes.

The reading ends are for looking only: a worker starts no request while output of the last one is there. Its
slot follows, for workers that have no memory in common with the main process."""

RECEIVE_BYTES = 65536
BACKLOG_MAX = 1024
SEND_SECONDS = 10
"""How long the peer may take to accept an answer before the worker gives the connection up."""

CONTROL_BYTES = 1 << 16
"""Of one order or answer on the control socket; each is a line."""

COLLECT = b"?"
"""What a worker that cannot look into its pipes says: log what is in them, then tell me to go on."""

LEFTOVER_SECONDS = 0.05
"""How long a process that a handler started may outlive its request. A look costs a system call: too much for
every request of a busy lane."""

DRAIN_SECONDS = 0.2
"""How long a draining worker says so to requests that were already on their way."""

_GONE = select.EPOLLHUP | select.EPOLLERR


class _Connection:
    __slots__ = ("buffer", "descriptor", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.descriptor = connection.fileno()
        self.buffer = b""


class Worker:
    """One lane's process."""

    def __init__(self, settings: dict[str, Any], slot: Slot) -> None:
        limits = settings["limits"]
        self._slot = slot
        self._timeout_ms = limits["timeoutMs"]
        self._loader = Loader(settings["trees"], settings["environment"])
        self._invoker = Invoker(self._loader, limits["maxOutputBytes"], self._timeout_ms)
        self._control = socket.socket(fileno=CONTROL)
        self._listener = socket.socket(fileno=LISTENER)
        self._listener.setblocking(False)
        self._connections: dict[int, _Connection] = {}
        self._epoll = select.epoll()
        for descriptor in (CONTROL, LISTENER, OUT, ERR):
            self._epoll.register(descriptor, select.EPOLLIN)
        self._orders = b""
        self._draining = False
        self._look_at = 0.0  # monotonic seconds at which leftovers of handlers are looked for again
        self._unlooked = False  # whether a request has run since

    def run(self) -> NoReturn:
        """Serve until told to drain, or until the main process is gone."""
        self._invoker.install(self._slot.is_cancelled, _copy_detector())
        poll = self._epoll.poll
        connections = self._connections
        deadline = None
        while True:
            events = poll(DRAIN_SECONDS if self._draining else LEFTOVER_SECONDS if self._unlooked else None)
            if not events and self._unlooked:
                self._end_leftovers()
            if self._draining:
                deadline = deadline or monotonic() + DRAIN_SECONDS
                if not events or not connections or monotonic() > deadline:
                    os._exit(0)
            for descriptor, event in events:
                connection = connections.get(descriptor)
                if connection is not None:
                    self._receive(connection)
                elif descriptor in (OUT, ERR):
                    self._await_collection(descriptor)
                elif event & _GONE:
                    os._exit(0)
                elif descriptor == LISTENER:
                    self._accept()
                elif descriptor == CONTROL:
                    self._obey()

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return
        accepted.setblocking(True)
        # Blocking with a limit kept by the kernel: no system call more per answer.
        limit = struct.pack("@ll", SEND_SECONDS, 0)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection = _Connection(accepted)
        self._connections[connection.descriptor] = connection
        self._epoll.register(connection.descriptor, select.EPOLLIN)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.descriptor]
        self._epoll.unregister(connection.descriptor)
        connection.socket.close()

    def _await_collection(self, descriptor: int) -> None:
        """Let the main process log what the last request printed before another request begins."""
        waiter = select.poll()
        while pending(descriptor):
            waiter.poll(1)

    def _receive(self, connection: _Connection) -> None:
        """Take what came, and answer every request that is complete."""
        try:
            data = connection.socket.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        if connection.buffer:
            data = connection.buffer + data
            connection.buffer = b""
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > http1.HEAD_LIMIT:
                    self._refuse(connection, 431, f"the head is longer than {http1.HEAD_LIMIT} bytes")
                    return
                break
            head = data[: end + 2]
            lowered = head.lower()
            try:
                if not head.startswith(b"POST /execute HTTP/1.1\r\n"):
                    raise BadRequest(404, "a lane takes POST /execute only")
                total = end + 4 + http1.content_length(lowered)
            except BadRequest as error:
                self._refuse(connection, error.status, str(error))
                return
            if len(data) < total:
                break
            answer, keep = self._answer(head, lowered, data[end + 4 : total])
            try:
                connection.socket.sendall(answer)
            except OSError:
                keep = False
            if not keep:
                self._drop(connection)
                return
            data = data[total:]
        connection.buffer = data

    def _refuse(self, connection: _Connection, status: int, why: str) -> None:
        body = http1.error_body(http1.REASONS[status], why)
        with contextlib.suppress(OSError):  # It is being dropped either way.
            connection.socket.sendall(http1.response(status, body, None, close=True))
        self._drop(connection)

    def _answer(self, head: bytes, lowered: bytes, body: bytes) -> tuple[bytes, bool]:
        """The response to one request, and whether the connection is kept."""
        close = self._draining or lowered.find(b"\r\nconnection: close\r\n") >= 0
        header_id = http1.header(head, lowered, b"x-request-id")
        try:
            request = parse(body, header_id)
        except Malformed as error:
            if header_id is not None and not http1.is_printable(header_id):
                header_id = None
            return http1.response(
                400, http1.error_body("Bad Request", str(error)), header_id, close
            ), not close
        request_id = request["requestId"]
        if self._draining:
            why = http1.error_body("Service Unavailable", "this instance is draining")
            return http1.response(503, why, request_id, close), False
        timeout_ms = request["context"].get("timeoutMs") or self._timeout_ms
        now = monotonic()
        self._slot.begin(request, now + timeout_ms / 1000)
        status, answer = self._invoker.answer(request)
        self._clean_up()
        if now >= self._look_at:
            self._end_leftovers()
            self._look_at = now + LEFTOVER_SECONDS
        else:
            self._unlooked = True
        self._slot.end()
        return http1.response(status, answer, request_id, close), not close

    def _clean_up(self) -> None:
        """See that what the handler printed is out, and that it left the streams as they were."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                os._exit(1)  # The handler took its own streams away: a fresh worker has them again.

    def _end_leftovers(self) -> None:
        """End the processes that handlers left running."""
        self._unlooked = False
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        kill_descendants()

    def _obey(self) -> None:
        """Do what the main process says, a line for each order."""
        packet = self._control.recv(CONTROL_BYTES)
        if not packet:
            os._exit(0)
        *lines, self._orders = (self._orders + packet).split(b"\n")
        for line in lines:
            self._carry_out(loads(line))

    def _carry_out(self, order: dict[str, Any]) -> None:
        """Load a revision, forget one, or drain."""
        if order["do"] == "drain":
            self._draining = True
            self._epoll.unregister(LISTENER)
            self._listener.close()
        elif order["do"] == "forget":
            self._loader.forget(order["tree"])
        else:
            why = ""
            try:
                for component in order["components"]:
                    self._loader.handler(order["tree"], component["script"], component["function"])
            except Exception as error:
                traceback.print_exc()
                why = describe(error)
            gc.collect()
            gc.freeze()  # What a revision loaded lives as long as the revision: nothing to collect there.
            why = " ".join(why.split())
            self._control.sendall(f"{order['tree']} {why}\n".encode(errors="replace"))


def _copy_detector() -> Callable[[], bool] | None:
    """The cheapest there is; None if the kernel has nothing better than asking for the pid."""
    try:
        return Original().is_copy
    except OSError:
        return None


def run(settings: dict[str, Any], slot: Slot) -> NoReturn:
    """Be a worker, in a process that `children.start` made."""
    confine.scope_handlers(settings["writable"])
    confine.adopt_orphans()
    apply_handler(settings["limits"])
    # A request that wakes this worker must not take the processor from the gateway that is sending more of
    # them: on a busy core each then does a batch of work at a time. On an idle one it changes nothing.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    Worker(settings, slot).run()
