"""The containers of one home as instances: made, found by their labels, looked after, and removed.

Every call blocks on the engine; `docker` calls from threads. The engine's containers are the record of what
runs and outlive this daemon. One small file for each container, out of any sandbox's reach, tells of it in
case that it is removed by hand, or that after a reboot the engine does not answer yet.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path

from uhlp_core.home import Home
from uhlp_reconcilers.images import recipe
from uhlp_state.model.pools import ResourceLimits

from . import docker_container as container
from . import node_program, procfs
from .docker_engine import Details, Engine
from .mounts import check_mounts
from .protocol import BackendError, Instance, InstanceSpec
from .runner_config import runner_config
from .users import PROBE_UID

NAME = "docker"
"""What instance documents call this backend."""

CONFIG = "runner.json"

USER_FIRST = 1_879_048_192
USER_COUNT = 2**31 - USER_FIRST
"""User ids that no distribution gives to anybody. Each instance has one of its own, since the kernel counts
a user's processes over all containers; its group is its app's."""

PROBE_SECONDS = 20.0
"""For a runner that only looks around."""

STOP_SECONDS = 10.0
"""What the engine may take to note that a container's process has ended."""


class Containers:
    """The containers that bear the mark of one home; no other is ever touched."""

    def __init__(self, home: Home, engine: Engine) -> None:
        self._engine = engine
        self._home = home.root
        self._mark = hashlib.sha256(os.fsencode(home.root.resolve())).hexdigest()[:12]
        self._folders = home.run / "c"
        self._records = home.containers
        self._running: dict[str, Instance] = {}
        """By container id, what was handed out as running: to say why it ends if it must be ended."""

    def folder(self, instance: str) -> Path:
        """The folder of an instance."""
        return self._folders / instance

    def start(self, spec: InstanceSpec, image: str, runtime: str | None, group: int) -> Instance:
        """Create and start a container, or leave nothing behind. Raises BackendError, OSError."""
        try:
            return self._start(spec, image, runtime, group)
        except (BackendError, OSError):
            # Where the engine cannot say what it has made, the record stays, to be asked about again.
            with contextlib.suppress(BackendError):
                self._discard(spec.instance)
            raise

    def _start(self, spec: InstanceSpec, image: str, runtime: str | None, group: int) -> Instance:
        folder = self.folder(spec.instance)
        check_mounts(spec.mounts, self._home)
        placement = _placement(self._mark, spec, image, runtime, group, folder)
        for private in (self._folders, self._records):
            private.mkdir(mode=0o700, exist_ok=True)
        record = self._record(spec.instance)
        draft = record.with_suffix(".new")
        draft.write_text(json.dumps(container.labels(spec, placement)))
        draft.replace(record)
        _lay_out(spec, placement)
        created = self._engine.create(self._name(spec.instance), container.description(spec, placement))
        self._engine.start(created)
        details = self._engine.inspect(created)
        if details is None:
            raise BackendError(f"{spec.instance}: its container was removed as soon as it was started")
        return self._instance(details)

    def protection(self, image: str) -> tuple[list[str], list[str]]:
        """What a container started now would have in force, and lack, by its own account: about 0.4 s.

        Raises BackendError.
        """
        with tempfile.TemporaryDirectory(prefix="probe-", dir=self._folders.parent) as name:
            folder = Path(name)
            spec = _probe(folder)
            mark = f"{self._mark}-probe"  # Nobody's instance.
            group = PROBE_UID if os.geteuid() == 0 else os.getegid()
            placement = _placement(mark, spec, image, None, group, folder / "run")
            _lay_out(spec, placement)
            probe = self._engine.create(
                f"uhlp-{mark}-{secrets.token_hex(5)}",
                container.description(spec, placement, "--protection"),
            )
            try:
                self._engine.start(probe)
                self._engine.await_stop(probe, PROBE_SECONDS)
            finally:
                self._engine.remove(probe)
            told = spec.log.read_text()
        try:
            in_force, missing = json.loads(told)
        except ValueError:
            raise BackendError(f"a runner cannot start in {image}: {told[-500:]}") from None
        in_force.append("memory, CPU and processes of the instance as a whole")
        own_user = "users of its own for each app and instance"
        (in_force if os.geteuid() == 0 else missing).append(own_user)
        missing.append("a kernel of its own: that takes `isolation: gvisor`")
        return in_force, missing

    def has_started_any(self) -> bool:
        """Whether by the records something was started and not removed. Asks no engine."""
        return any(self._records.glob("*.json"))

    def named(self, instance: str) -> list[Instance]:
        """The containers of this instance: none, one, or what somebody has cloned. Raises BackendError."""
        return [self._instance(details) for details in self._details(instance)]

    def all(self) -> list[Instance]:
        """Every instance there is or, by the records, should be. Raises BackendError."""
        # In this order: a container that is made in between is missed by neither look.
        recorded = sorted(self._records.glob("*.json"))
        found = [self._instance(details) for details in self._details(None)]
        known = {instance.instance for instance in found}
        for record in recorded:
            if record.stem not in known:
                try:
                    labels = json.loads(record.read_text())
                except FileNotFoundError:
                    continue
                except (OSError, ValueError) as error:
                    raise BackendError(f"{record}: cannot be read: {error}; remove it") from error
                found.append(self._of(labels, None, container.REMOVED))
        return found

    def signal(self, instance: Instance, name: str) -> None:
        """Send the runner a signal. Raises BackendError."""
        for details in self._details(instance.instance):
            self._engine.signal(details["Id"], name)

    def remove(self, instance: Instance) -> None:
        """Kill and remove, and forget. Raises BackendError; then all can be tried again."""
        if not instance.alive:
            instance.exit_reason = instance.exit_reason or self.why_ended(instance)
        instance.exit_reason = instance.exit_reason or "removed"
        self._discard(instance.instance)
        for known in [
            one for one, held in self._running.copy().items() if held.instance == instance.instance
        ]:
            self._running.pop(known, None)

    def _discard(self, instance: str) -> None:
        """Remove its containers, and then what tells of them. Raises BackendError."""
        for details in self._details(instance):
            self._engine.remove(details["Id"])
        shutil.rmtree(self.folder(instance), ignore_errors=True)
        self._record(instance).unlink(missing_ok=True)
        self._record(instance).with_suffix(".new").unlink(missing_ok=True)

    def why_ended(self, instance: Instance) -> str:
        """Why it does not run any more, as soon as the engine knows."""
        try:
            for details in self._details(instance.instance):
                self._engine.await_stop(details["Id"], STOP_SECONDS)
                if stopped := self._engine.inspect(details["Id"]):
                    return container.ending(stopped)
        except BackendError as error:
            return f"ended; why, the engine cannot say: {error}"
        return container.REMOVED

    def look(self, changed: str | None) -> None:
        """End a running container (by id; all of them for None) that is not what it was made as.

        Raises BackendError.
        """
        for one in list(self._running) if changed is None else [changed]:
            instance = self._running.get(one)
            details = self._engine.inspect(one) if instance else None
            if instance and details and (altered := container.drift(details)):
                instance.exit_reason = altered
                self._engine.remove(one)

    def _details(self, instance: str | None) -> list[Details]:
        labels = {container.HOME_LABEL: self._mark}
        if instance is not None:
            labels[container.INSTANCE_LABEL] = instance
        ids = self._engine.containers(labels)
        return [details for one in ids if (details := self._engine.inspect(one))]

    def _instance(self, details: Details) -> Instance:
        """The instance of a container. One that runs, but not as it was made, counts as ended."""
        state = details["State"]
        labels = details["Config"]["Labels"]
        if not state["Running"]:
            return self._of(labels, None, container.ending(details))
        if altered := container.drift(details):
            return self._of(labels, None, altered)
        instance = self._of(labels, procfs.read(state["Pid"]), None)
        known = self._running.get(details["Id"])
        if known is not None and known.pid == instance.pid:
            return known  # The same object, for whoever waits for it is told why it ends.
        self._running[details["Id"]] = instance
        return instance

    def _of(self, labels: dict[str, str], process: procfs.Process | None, ended: str | None) -> Instance:
        instance = labels[container.INSTANCE_LABEL]
        return Instance(
            backend=NAME,
            instance=instance,
            app=labels[container.APP_LABEL],
            deployment=labels[container.DEPLOYMENT_LABEL],
            pool=labels[container.POOL_LABEL],
            spec=labels[container.SPEC_LABEL],
            pid=process.pid if process else 0,
            start_ticks=process.started if process else 0,
            started_at=float(labels[container.STARTED_LABEL]),
            dir=self.folder(instance),
            exit_reason=ended,
            container=self._name(instance),
            # A container inherits its image's labels; what is known of a removed one has none.
            is_outdated=process is not None and labels.get(recipe.SOURCE_LABEL) not in recipe.current(),
        )

    def _name(self, instance: str) -> str:
        """What the container of an instance is called."""
        return f"uhlp-{self._mark}-{instance}"

    def _record(self, instance: str) -> Path:
        return self._records / f"{instance}.json"


def _placement(
    mark: str, spec: InstanceSpec, image: str, runtime: str | None, group: int, folder: Path
) -> container.Placement:
    return container.Placement(
        home=mark,
        image=image,
        user=_user_of(spec.instance) if os.geteuid() == 0 else os.geteuid(),
        group=group,
        folder=folder,
        config=CONFIG,
        started_at=time.time(),
        runtime=runtime,
    )


def _lay_out(spec: InstanceSpec, placement: container.Placement) -> None:
    """Make what is mounted and, where we may, give it to the container's user. Raises OSError."""
    folder = placement.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    config = folder / CONFIG
    config.write_text(json.dumps(_config(spec, folder)))
    spec.trees.mkdir(parents=True, exist_ok=True)
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    spec.log.touch()
    if os.geteuid() == 0:
        os.chown(config, 0, placement.group)
        config.chmod(0o640)
        # The runner makes its sockets here, and must neither remove nor replace what the daemons put here:
        # in a sticky folder of root's only root removes root's files.
        os.chown(folder, 0, placement.group)
        folder.chmod(0o1770)
        os.chown(spec.log, -1, placement.group)
        spec.log.chmod(0o660)


def _probe(folder: Path) -> InstanceSpec:
    return InstanceSpec(
        instance="probe",
        app="probe",
        deployment="probe",
        pool="probe",
        spec_hash="",
        mode="fork",
        concurrency=1,
        timeout_seconds=1.0,
        limits=ResourceLimits(),
        trees=folder / "trees",
        log=folder / "log",
    )


def _config(spec: InstanceSpec, folder: Path) -> Details:
    return runner_config(
        spec,
        trees=container.TREES,
        folder=folder,
        libraries=container.LIBRARIES,
        node=node_program.NAME,
        templating=[str(container.TEMPLATING / name) for name in recipe.TEMPLATING],
        isolation={
            "confinedBy": "container",
            "tmpBytes": container.TMP_BYTES,
            "hidden": [],
            "mounts": [{"path": mount.target, "writable": mount.writable} for mount in spec.mounts],
        },
    )


def _user_of(instance: str) -> int:
    digest = hashlib.sha256(instance.encode()).digest()
    return USER_FIRST + int.from_bytes(digest[:8]) % USER_COUNT
