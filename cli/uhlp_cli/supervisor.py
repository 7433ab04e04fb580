"""Runs all daemons on one machine: starts them, starts again what ends, stops them in order.

The supervisor imports what the daemons need and forks them, so that they share memory and start at once. It
holds the listening sockets: a gateway that is killed finds its waiting connections again. It does no work
of its own that could make it fail.
"""

import contextlib
import fcntl
import json
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from uhlp_cli import redis_server
from uhlp_core import daemon, sockets
from uhlp_core.errors import Conflict, Unavailable
from uhlp_core.home import Home
from uhlp_core.settings import Settings

log = logging.getLogger(__name__)

STABLE_SECONDS = 5.0
"""A daemon that lived shorter is started again with growing pauses."""

MAX_PAUSE = 5.0
STOP_SECONDS = 15.0
"""How long the daemons have to finish what is under way."""

TELL_AGAIN_SECONDS = 1.0
"""Between attempts to write down what runs, on a disk that is full."""

READY_SECONDS = 30.0
TICK = 0.02

STOP_ORDER = (("gateway", "control"), ("registry", "routes", "cleanup", "mcp"), ("sandboxes",), ("redis",))
"""First nothing new comes in, then the control loop rests, then the instances end, at last Redis."""


@dataclass(slots=True)
class Child:
    """A process that is to be kept running."""

    name: str
    start: Callable[[], int]
    """Starts it and returns its pid."""
    pid: int = 0
    started: float = 0.0
    failures: int = 0
    not_before: float = 0.0


class Supervisor:
    """Keeps the daemons of one home running until it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._home: Home = settings.home
        self._lock = self._take_lock()
        settings.check_exposure()
        self._sockets = {
            "gateway": sockets.listen_tcp(settings.bind, settings.port),
            "control": sockets.listen_tcp(settings.control_bind, settings.effective_control_port),
            "mcp": sockets.listen_tcp(settings.mcp_bind, settings.effective_mcp_port),
        }
        ports = {name: listener.getsockname()[1] for name, listener in self._sockets.items()}
        self.settings = settings.model_copy(
            update={"port": ports["gateway"], "control_port": ports["control"], "mcp_port": ports["mcp"]}
        )
        self._children: dict[str, Child] = {}
        self._stopping = False
        self._is_untold = False

    # -- starting --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything and wait until it serves. Raises Unavailable if it does not come up."""
        _prepare_metrics(self._home)
        self._signals, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_stop_signal)
        if self.settings.embedded_redis:
            self._start_redis()
        for name, run in self._daemons().items():
            self._children[name] = Child(name, partial(self._fork, name, run))
        for child in self._children.values():
            if not child.pid:
                self._start_child(child)
        self._write_state()
        self._wait("the platform", self._is_ready)

    def _daemons(self) -> dict[str, Callable[[], None]]:
        """Every daemon by name. Imported only now: Redis starts meanwhile."""
        from uhlp_control import server as control
        from uhlp_gateway import server as gateway
        from uhlp_hooks.install import install_hooks
        from uhlp_mcp import server as mcp
        from uhlp_reconcilers.daemons import MAINS

        install_hooks(self._home, self.settings.push_wait_seconds)
        settings = self.settings
        mains: dict[str, Callable[[], None]] = {
            name: partial(daemon.run, name, main, settings) for name, main in MAINS.items()
        }
        serve_mcp = partial(mcp.serve, listener=self._sockets["mcp"])
        mains["mcp"] = partial(daemon.run, "mcp", serve_mcp, settings)
        serve_control = partial(control.serve, listener=self._sockets["control"])
        mains["control"] = partial(daemon.run, "control", serve_control, settings)
        serve_gateway = partial(gateway.serve, listener=self._sockets["gateway"])
        for number in range(settings.gateways):
            name = "gateway" if settings.gateways == 1 else f"gateway-{number}"
            mains[name] = partial(daemon.run, name, serve_gateway, settings)
        return mains

    def _fork(self, name: str, run: Callable[[], None]) -> int:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            os.setsid()  # Ctrl-C is for the supervisor, which stops the daemons in order.
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            daemon.end_with_parent(parent)
            for other, listener in self._sockets.items():
                if not name.startswith(other):
                    listener.close()
            run()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
        raise AssertionError("unreachable")

    def _start_redis(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while redis_server.is_listening(self._home):  # One of a supervisor that was killed: it is ending.
            if time.monotonic() > deadline:
                raise Conflict(
                    f"another Redis still listens on {self._home.run / 'redis.sock'}; stop it first"
                )
            time.sleep(TICK)
        binary = redis_server.find_binary()
        text = redis_server.configuration(self._home, redis_server.ensure_password(self._home))
        child = Child("redis", partial(self._spawn_redis, binary, text))
        self._children["redis"] = child
        self._start_child(child)
        self._wait("Redis", lambda: redis_server.is_listening(self._home))

    def _spawn_redis(self, binary: Path, text: str) -> int:
        process = subprocess.Popen(
            [str(binary), "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=partial(daemon.end_with_parent, os.getpid()),
        )
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(text.encode())
        process.returncode = 0  # The supervisor reaps every child itself.
        return process.pid

    def _start_child(self, child: Child) -> None:
        child.pid = child.start()
        child.started = time.monotonic()

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if time.monotonic() > deadline:
                raise Unavailable(f"{what} did not come up within {READY_SECONDS:.0f} s; see the log above")
            if self._stopping:
                raise Unavailable("stopped while starting")
            self._reap()
            time.sleep(TICK)

    def _is_ready(self) -> bool:
        return _answers(self._home.receive_socket) and all(
            _is_ready_http(listener) for listener in self._sockets.values()
        )

    # -- running ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Keep everything running until a stop signal."""
        while not self._stopping:
            self._reap()
            if self._is_untold:
                self._write_state()
            due = [child.not_before for child in self._children.values() if not child.pid]
            if self._is_untold:
                due.append(time.monotonic() + TELL_AGAIN_SECONDS)
            select.select([self._signals], [], [], max(0.0, min(due) - time.monotonic()) if due else None)
            with contextlib.suppress(BlockingIOError):
                os.read(self._signals, 512)

    def _reap(self) -> None:
        """Notice ended children and start them again, after a pause if they keep ending."""
        changed = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            child = next((child for child in self._children.values() if child.pid == pid), None)
            if child is None:
                continue
            _forget_gauges(self._home, pid)
            lived = time.monotonic() - child.started
            child.failures = child.failures + 1 if lived < STABLE_SECONDS else 0
            pause = min(MAX_PAUSE, 0.1 * 2**child.failures) if child.failures else 0.0
            child.pid, child.not_before = 0, time.monotonic() + pause
            if not self._stopping:
                log.warning("%s ended (%s); starting it again", child.name, _how(status))
        for child in self._children.values():
            due = child.started and not child.pid and time.monotonic() >= child.not_before
            if due and not self._stopping:
                self._start_child(child)
                changed = True
        if changed:
            self._write_state()

    def _write_state(self) -> None:
        """Tell other commands where the platform listens and which processes it consists of.

        Where that cannot be written now, `run` tries again.
        """
        settings = self.settings
        state = {
            "pid": os.getpid(),
            "gateway": f"http://{settings.domain}:{settings.port}",
            "control": f"http://localhost:{settings.effective_control_port}",
            "mcp": f"http://localhost:{settings.effective_mcp_port}/mcp",
            "domain": settings.domain,
            "port": settings.port,
            "startedAt": time.time(),
            "daemons": {child.name: child.pid for child in self._children.values() if child.pid},
        }
        path = self._home.run / "up.json"
        temporary = path.with_suffix(".new")
        try:
            temporary.write_text(json.dumps(state))
            temporary.rename(path)
        except OSError as error:
            # A full disk must not end what serves without needing it.
            if not self._is_untold:
                log.warning("cannot tell other commands what runs, trying again: %s", error)
            self._is_untold = True
        else:
            self._is_untold = False

    # -- stopping --------------------------------------------------------------------------------------

    def _on_stop_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def stop(self) -> None:
        """End everything in order; instances of sandboxes end too. Called once, also after a failed start."""
        self._stopping = True
        for group in STOP_ORDER:
            children = [
                child
                for child in self._children.values()
                if child.pid and child.name.partition("-")[0] in group
            ]
            self._end(children)
            if "sandboxes" in group:
                self._remove_instances()
        (self._home.run / "up.json").unlink(missing_ok=True)
        shutil.rmtree(self._home.metrics, ignore_errors=True)
        for listener in self._sockets.values():
            listener.close()
        os.close(self._lock)

    def _end(self, children: list[Child]) -> None:
        for child in children:
            _signal(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(child.pid for child in children) and time.monotonic() < deadline:
            self._reap()
            time.sleep(TICK)
        for child in children:
            if child.pid:
                log.warning("%s does not stop; killing it", child.name)
                _signal(child.pid, signal.SIGKILL)

    def _remove_instances(self) -> None:
        """A stopped platform leaves no sandbox behind (a daemon that restarts alone adopts them instead)."""
        import asyncio

        from uhlp_reconcilers.daemons import backend

        async def remove() -> None:
            sandboxes = backend(self.settings)
            instances = await sandboxes.list()
            await asyncio.gather(*(sandboxes.remove(instance, grace=2.0) for instance in instances))
            sandboxes.close()

        asyncio.run(remove())

    def _take_lock(self) -> int:
        """One platform per home. A kernel lock: it cannot outlive its owners.

        The daemons hold it with the supervisor. After a supervisor was killed it is free once they have
        ended, so that two generations of daemons never work side by side.
        """
        self._home.create()
        descriptor = os.open(self._home.run / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if self._is_supervised() or time.monotonic() > deadline:
                    os.close(descriptor)
                    raise Conflict(
                        f"UHLP is already running with {self._home.root}; stop it, or choose another --home"
                    ) from None
            time.sleep(TICK)

    def _is_supervised(self) -> bool:
        """Whether the supervisor that wrote the state down still lives."""
        try:
            pid = int(json.loads((self._home.run / "up.json").read_text())["pid"])
            os.kill(pid, 0)
        except (OSError, ValueError, KeyError):
            return False
        return True


def _prepare_metrics(home: Home) -> None:
    """Have all daemons count into one folder; must come before prometheus_client is imported."""
    shutil.rmtree(home.metrics, ignore_errors=True)
    home.metrics.mkdir(mode=0o700, parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(home.metrics)


def _forget_gauges(home: Home, pid: int) -> None:
    """What a daemon that has ended said about "now" does not hold any more."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid, str(home.metrics))  # type: ignore[no-untyped-call]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.WEXITSTATUS(status)}"


def _answers(path: Path) -> bool:
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(str(path))
    except OSError:
        return False
    finally:
        probe.close()
    return True


def _is_ready_http(listener: socket.socket) -> bool:
    """Whether the daemon behind a listening socket says that it is ready."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False
