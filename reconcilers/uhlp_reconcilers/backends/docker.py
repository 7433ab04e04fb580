"""Instances as containers of this machine's Docker engine, hardened as docs/docker.md says."""

import asyncio
import os
from pathlib import Path

from uhlp_core.home import Home
from uhlp_reconcilers.images import recipe
from uhlp_state.model.pools import DEFAULT_IMAGE, Isolation

from . import cgroup, pidfd
from .docker_engine import Engine
from .docker_instances import Containers
from .docker_watch import Watch
from .protocol import BackendError, Instance, InstanceSpec, InstanceStats, not_started
from .users import Users

SOCKET_PATH_LIMIT = 107
"""Bytes of a Unix socket's path, without its NUL."""

RUNSC = "runsc"
"""The name that gVisor's runtime has in the engine."""


class DockerBackend:
    """The `docker` backend, and `gvisor` for pools that ask for it where the engine has that runtime."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._users = Users(home.root / "users.json")
        self._engine = Engine()
        self._containers = Containers(home, self._engine)
        self._watch: Watch | None = None

    def close(self) -> None:
        """Stop watching and disconnect; containers go on running."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._engine.close()

    def check(self, image: str) -> str:
        """What instances of this image are made from. Raises BackendError if none can be started now."""
        return self._image(image)

    def has_started_any(self) -> bool:
        """Whether something was started and not removed, as far as can be told without the engine."""
        return self._containers.has_started_any()

    def protection(self) -> tuple[list[str], list[str]]:
        """What an instance started now would have in force, and what it would lack. Raises BackendError."""
        return self._containers.protection(self._image(DEFAULT_IMAGE))

    async def ensure(self, spec: InstanceSpec) -> Instance:
        """Create and start the instance, or find it running. Raises BackendError."""
        self._check(spec.instance)
        for found in await asyncio.to_thread(self._containers.named, spec.instance):
            if found.alive and found.spec == spec.spec_hash:
                return found
            await self.remove(found, grace=0)
        # Not in the thread: two of them would give two apps the same id.
        group = self._users.uid_of(spec.app) if os.geteuid() == 0 else os.getegid()
        try:
            return await asyncio.to_thread(self._start, spec, group)
        except OSError as error:
            raise not_started(spec.instance, error) from error

    async def list(self) -> list[Instance]:
        """Every instance of this home. Raises BackendError rather than returning less than the truth."""
        return await asyncio.to_thread(self._containers.all)

    async def remove(self, instance: Instance, *, grace: float) -> None:
        """Drain for at most `grace` seconds, then remove its container and its folder."""
        if instance.alive and grace > 0:
            # SIGTERM is the runner's drain.
            await asyncio.to_thread(self._containers.signal, instance, "SIGTERM")
            try:
                await asyncio.wait_for(pidfd.ended(instance.pid, instance.start_ticks), grace)
            except TimeoutError:
                instance.exit_reason = f"killed: not drained within {grace:g} s"
        await asyncio.to_thread(self._containers.remove, instance)

    async def wait(self, instance: Instance) -> None:
        """Return once the container has ended; `exit_reason` is then set."""
        if self._watch is None:
            self._watch = Watch(self._engine, self._containers.look)
        await pidfd.ended(instance.pid, instance.start_ticks)
        if instance.exit_reason is None:
            reason = await asyncio.to_thread(self._containers.why_ended, instance)
            # Whoever ended it may have said why meanwhile, and knows better.
            instance.exit_reason = instance.exit_reason or reason

    def logs(self, instance: Instance) -> Path:
        """The file its output is appended to."""
        return self._home.app_log(instance.app)

    async def stats(self, instance: Instance) -> InstanceStats:
        """What all processes of the container use now. Raises BackendError if it has ended."""
        if not instance.alive:
            raise BackendError(f"{instance.instance} has ended; it uses nothing")
        used = cgroup.usage(instance.pid)
        if used is None:
            raise BackendError(
                f"{instance.instance}: the kernel does not show its control group in {cgroup.ROOT}"
            )
        return used

    def _check(self, instance: str) -> None:
        folder = self._containers.folder(instance)
        if folder.name != instance or instance == "..":
            raise BackendError(f"{instance!r} is not the name of an instance")
        if len(os.fsencode(folder / "execute.sock")) > SOCKET_PATH_LIMIT:
            raise BackendError(f"{folder}: too long for a socket's {SOCKET_PATH_LIMIT} bytes; shorten --home")

    def _start(self, spec: InstanceSpec, group: int) -> Instance:
        return self._containers.start(spec, self._image(spec.image), self._runtime(spec.isolation), group)

    def _image(self, reference: str) -> str:
        """The image to run. Raises BackendError unless it is there and has this installation's runner."""
        named = recipe.named(reference)
        # One of somebody else's may be built on either of these.
        fitting = (named,) if named else (recipe.PYTHON_RUNNER, recipe.LLM_ORCHESTRATOR)
        image = recipe.tag(named) if named else reference
        details = self._engine.image(image)
        if details is None and named:
            raise BackendError(f"the image {image} of this version is not there; run `uhlp images build`")
        if details is None:
            raise BackendError(f"the image {image} is not on this machine; `docker pull` or `docker load` it")
        runner = (details["Config"]["Labels"] or {}).get(recipe.SOURCE_LABEL)
        if runner not in [recipe.source_hash(one) for one in fitting]:
            base = recipe.tag(fitting[0])
            raise BackendError(
                f"the image {image} has {f'the runner {runner}' if runner else 'no runner'}, and not that of "
                f"this version; build it again FROM {base}, which `uhlp images build` makes"
            )
        return image

    def _runtime(self, isolation: Isolation) -> str | None:
        """The runtime to ask the engine for; None for its own. Raises BackendError if it lacks it."""
        if isolation != Isolation.GVISOR:
            return None
        if RUNSC not in self._engine.info()["Runtimes"]:
            raise BackendError(
                f"isolation: gvisor needs the runtime {RUNSC}, which the Docker engine does not have; "
                "docs/docker.md says how to install it"
            )
        return RUNSC
