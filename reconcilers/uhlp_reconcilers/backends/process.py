"""Instances as processes of this machine: a runner each, in a session of its own, outliving the daemon.

The record of an instance is `instance.json` in its folder, written before the runner starts and again
with its pid and start time. Nothing is kept in memory that another daemon would need, save what only a
parent is told: how its child ended.
"""

import asyncio
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from uhlp_core.home import Home
from uhlp_reconcilers.images import recipe
from uhlp_state.model.pools import Language, ResourceLimits

from . import node_program, pidfd, procfs
from .protocol import BackendError, Instance, InstanceSpec, InstanceStats, not_started
from .runner_config import runner_config
from .users import PROBE_UID, Users

RECORD = "instance.json"
CONFIG = "runner.json"

SOCKET_PATH_LIMIT = 107
"""Bytes of a Unix socket's path, without its NUL."""

TMP_BYTES = 64 << 20
"""Size of an instance's private /tmp, where it can have one."""


class ProcessBackend:
    """The `process` backend: contains accidents, and protects as far as kernel and user allow."""

    name = "process"

    def __init__(self, home: Home) -> None:
        self._home = home
        self._users = Users(home.root / "users.json")
        self._children: set[int] = set()

    def protection(self) -> tuple[list[str], list[str]]:
        """What an instance started now would have in force, and what it would lack.

        Starts a runner that only shuts itself in and says so: about 0.2 s. Raises BackendError.
        """
        uid = PROBE_UID if os.geteuid() == 0 else None
        with tempfile.TemporaryDirectory(prefix="probe-", dir=self._home.run) as folder:
            spec = InstanceSpec(
                instance="probe",
                app="probe",
                deployment="probe",
                pool="probe",
                spec_hash="",
                mode="fork",
                concurrency=1,
                timeout_seconds=1.0,
                limits=ResourceLimits(),
                trees=self._home.trees,
                log=Path(os.devnull),
            )
            config = Path(folder) / CONFIG
            _write(config, _config(spec, Path(folder), self._home.root, uid))
            probe = subprocess.run(runner_command(config, "--protection"), capture_output=True, text=True)
        if probe.returncode:
            raise BackendError(f"a runner cannot start here: {probe.stderr[-500:]}")
        in_force, missing = json.loads(probe.stdout)
        return in_force, missing

    async def ensure(self, spec: InstanceSpec) -> Instance:
        """Create and start the instance, or find it running. Raises BackendError."""
        if spec.mounts:
            raise BackendError(
                f"pool {spec.pool}: volumeMounts take containers, and its instances are processes of "
                "the host; give it `isolation: docker`"
            )
        folder = self._folder(spec.instance)
        found = self._read(folder)
        if found is not None and found.alive and found.spec == spec.spec_hash:
            return found
        if found is not None:
            await self.remove(found, grace=0)
        try:
            return await asyncio.to_thread(self._start, spec, folder)
        except OSError as error:
            # Perhaps it runs already, and only its pid could not be written down.
            if (half_made := self._read(folder)) is not None:
                await self.remove(half_made, grace=0)
            raise not_started(spec.instance, error) from error

    async def list(self) -> list[Instance]:
        """Every instance of this home. Raises BackendError rather than returning less than the truth."""
        try:
            folders = sorted(self._home.sandboxes.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BackendError(f"{self._home.sandboxes}: {error}") from error
        return [found for folder in folders if (found := self._read(folder)) is not None]

    async def remove(self, instance: Instance, *, grace: float) -> None:
        """Drain for at most `grace` seconds, end all of its processes and remove its folder."""
        if instance.alive and grace > 0:
            # SIGTERM is the runner's drain.
            _signal(instance, signal.SIGTERM)
            try:
                await asyncio.wait_for(self.wait(instance), grace)
            except TimeoutError:
                instance.exit_reason = f"killed: not drained within {grace:g} s"
        await asyncio.to_thread(_kill_tree, instance)
        await self.wait(instance)
        await asyncio.to_thread(shutil.rmtree, instance.dir, True)

    async def wait(self, instance: Instance) -> None:
        """Return once the runner has ended; `exit_reason` is then set."""
        await pidfd.ended(instance.pid, instance.start_ticks)
        if instance.pid in self._children:
            self._children.discard(instance.pid)
            instance.exit_reason = instance.exit_reason or _reap(instance.pid)
        instance.exit_reason = instance.exit_reason or "ended"

    def logs(self, instance: Instance) -> Path:
        """The file its output is appended to. Raises BackendError."""
        return Path(_record(instance.dir)["log"])

    async def stats(self, instance: Instance) -> InstanceStats:
        """What the runner and all of its processes use now. Raises BackendError if it has ended."""
        if not instance.alive:
            raise BackendError(f"{instance.instance} has ended; it uses nothing")
        processes = await asyncio.to_thread(procfs.family, instance.pid)
        return InstanceStats(
            memory_bytes=sum(process.rss_bytes for process in processes),
            memory_limit_bytes=None,
            cpu_seconds=sum(process.cpu_seconds for process in processes),
            processes=len(processes),
        )

    def _folder(self, instance: str) -> Path:
        folder = self._home.sandboxes / instance
        if folder.parent != self._home.sandboxes or instance in ("", ".", ".."):
            raise BackendError(f"{instance!r} is not the name of an instance")
        if len(os.fsencode(folder / "execute.sock")) > SOCKET_PATH_LIMIT:
            raise BackendError(f"{folder}: too long for a socket's {SOCKET_PATH_LIMIT} bytes; shorten --home")
        return folder

    def _start(self, spec: InstanceSpec, folder: Path) -> Instance:
        uid = self._users.uid_of(spec.app) if os.geteuid() == 0 else None
        config = _config(spec, folder, self._home.root, uid)
        folder.mkdir(mode=0o700, parents=True)
        record: dict[str, Any] = {
            "instance": spec.instance,
            "app": spec.app,
            "deployment": spec.deployment,
            "pool": spec.pool,
            "spec": spec.spec_hash,
            "log": str(spec.log),
            "startedAt": time.time(),
            "pid": 0,
            "startTicks": 0,
        }
        _write(folder / RECORD, record)
        _write(folder / CONFIG, config)
        if uid is not None:
            # The app makes its sockets here, and must neither remove nor replace what the daemon trusts:
            # in a sticky folder of root's only root removes root's files.
            os.chown(folder, 0, uid)
            folder.chmod(0o1770)
        spec.trees.mkdir(parents=True, exist_ok=True)
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        command = runner_command(folder / CONFIG)
        with spec.log.open("ab") as log:
            # Not `subprocess`, whose objects expect their process to end before they do.
            pid = os.posix_spawn(
                command[0],
                command,
                {"PATH": os.defpath, "LANG": "C.UTF-8"},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
                ],
                setsid=True,
                setsigmask=(),
            )
        # Not reaped before `wait` asks, so its entry in /proc is there whatever has become of it.
        process = procfs.read(pid)
        assert process is not None, "a child that was not reaped is in /proc"
        _write(folder / RECORD, record | {"pid": pid, "startTicks": process.started})
        self._children.add(pid)
        found = self._read(folder)
        assert found is not None, "the record was just written"
        return found

    def _read(self, folder: Path) -> Instance | None:
        """The instance in a folder; None if the folder vanished. A half-written one counts as ended."""
        try:
            record = _record(folder)
        except FileNotFoundError:
            if not folder.exists():
                return None
            record = {}
        return Instance(
            backend=self.name,
            instance=folder.name,
            app=record.get("app", ""),
            deployment=record.get("deployment", ""),
            pool=record.get("pool", ""),
            spec=record.get("spec", ""),
            pid=record.get("pid", 0),
            start_ticks=record.get("startTicks", 0),
            started_at=record.get("startedAt", 0.0),
            dir=folder,
            exit_reason=None if record.get("pid") else "never started",
        )


def _config(spec: InstanceSpec, folder: Path, home: Path, uid: int | None) -> dict[str, Any]:
    return runner_config(
        spec,
        trees=spec.trees.resolve(),
        folder=folder,
        libraries=runner_libraries(),
        templating=[str(recipe.package(name).resolve()) for name in recipe.TEMPLATING],
        node=node_program.path() if spec.language is Language.JAVASCRIPT else "",
        isolation={"uid": uid, "gid": uid, "tmpBytes": TMP_BYTES, "hidden": [str(home)]},
    )


def runner_command(config: Path, *more: str) -> list[str]:
    """The program of a runner with its arguments. Raises BackendError."""
    # The interpreter itself, not a virtual environment's link to it: its prefix is what sandboxes see.
    interpreter = os.path.realpath(sys.executable)
    return [interpreter, "-I", "-S", str(_runner_folder()), "--config", str(config), *more]


def _runner_folder() -> Path:
    spec = importlib.util.find_spec("uhlp_runner")
    if spec is None or not spec.submodule_search_locations:
        raise BackendError("the package uhlp_runner is not installed; install uhlp again")
    return Path(spec.submodule_search_locations[0])


def runner_libraries() -> list[str]:
    """Where a runner finds the packages that it uses itself."""
    spec = importlib.util.find_spec("orjson")
    return [] if spec is None or spec.origin is None else [str(Path(spec.origin).parent.parent)]


def _record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise BackendError(f"{path}: cannot be read: {error}") from error
    return record


def _write(path: Path, document: dict[str, Any]) -> None:
    """Replace a file in one step: a reader sees the old or the new, never half."""
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        json.dump(document, file)
    draft.replace(path)


def _reap(pid: int) -> str:
    """Take the status of a child that has ended, and say it."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"


def _signal(instance: Instance, number: signal.Signals) -> None:
    try:
        os.kill(instance.pid, number)
    except ProcessLookupError:
        return  # It ended since we looked.


def _kill_tree(instance: Instance) -> None:
    """SIGKILL the runner and all that descends from it, until nothing does.

    The runner dies last: until then whatever loses its parent becomes the runner's child, and is found.
    """
    if not instance.pid:
        # The daemon that started it ended before it could write the pid down.
        for process in procfs.started_with(str(instance.dir / CONFIG)):
            _kill_tree(replace(instance, pid=process.pid, start_ticks=process.started))
        return
    while instance.alive:
        processes = procfs.tree(instance.pid)
        for process in processes[1:]:
            procfs.kill(process)
        if len(processes) <= 1 or all(process.state in "ZX" for process in processes[1:]):
            _signal(instance, signal.SIGKILL)
            procfs.await_end(instance.pid, instance.start_ticks)
            return
