"""Each pool on the backend that it asks for; `isolation: auto` on the one this machine was found to have.

What `auto` means is settled once, at the first start of an instance, and while containers are on record it
means containers: an engine that fails must not move anything to where it is less protected.
"""

import asyncio
import logging
from pathlib import Path

from uhlp_state.model.pools import DEFAULT_IMAGE, Isolation

from .docker import DockerBackend
from .process import ProcessBackend
from .protocol import BackendError, Instance, InstanceSpec, InstanceStats, SandboxBackend

log = logging.getLogger(__name__)


class ByIsolation:
    """Both backends of one home as one."""

    def __init__(self, process: ProcessBackend, docker: DockerBackend, auto: Isolation) -> None:
        """`auto` is what pools without a wish of their own get: PROCESS, DOCKER, or AUTO to find out."""
        self._process = process
        self._docker = docker
        self._auto = auto

    def close(self) -> None:
        """Disconnect; instances go on running."""
        self._docker.close()

    def protection(self) -> tuple[list[str], list[str]]:
        """What holds for a pool without a wish of its own."""
        return self._of(self.settled()).protection()

    async def ensure(self, spec: InstanceSpec) -> Instance:
        """Start it where its pool asks to be. Raises BackendError."""
        return await self._of(await self.resolved(spec.isolation)).ensure(spec)

    async def resolved(self, isolation: Isolation) -> Isolation:
        """What a pool gets that asks for this: never AUTO."""
        return await asyncio.to_thread(self.settled) if isolation == Isolation.AUTO else isolation

    def container_image(self, image: str) -> str:
        """What containers of a pool's image are made from. Raises BackendError."""
        return self._docker.check(image)

    async def list(self) -> list[Instance]:
        """The instances of both. Raises BackendError rather than returning less than the truth."""
        found = await self._process.list()
        try:
            found += await self._docker.list()
        except BackendError:
            # A machine without an engine is no error, unless something was started there.
            if self._docker.has_started_any():
                raise
        return found

    async def remove(self, instance: Instance, *, grace: float) -> None:
        """As the instance's own backend does."""
        await self._backend(instance).remove(instance, grace=grace)

    async def wait(self, instance: Instance) -> None:
        """As the instance's own backend does."""
        await self._backend(instance).wait(instance)

    def logs(self, instance: Instance) -> Path:
        """As the instance's own backend does."""
        return self._backend(instance).logs(instance)

    async def stats(self, instance: Instance) -> InstanceStats:
        """As the instance's own backend does."""
        return await self._backend(instance).stats(instance)

    def _of(self, isolation: Isolation) -> SandboxBackend:
        return self._process if isolation == Isolation.PROCESS else self._docker

    def _backend(self, instance: Instance) -> SandboxBackend:
        return self._process if instance.backend == self._process.name else self._docker

    def settled(self) -> Isolation:
        """What `auto` means on this machine: PROCESS or DOCKER. Asks the engine the first time."""
        if self._auto == Isolation.AUTO and self._docker.has_started_any():
            self._auto = Isolation.DOCKER
        if self._auto == Isolation.AUTO:
            try:
                self._docker.check(DEFAULT_IMAGE)
            except BackendError as error:
                self._auto = Isolation.PROCESS
                log.warning("`isolation: auto` means process, with less isolation than containers: %s", error)
            else:
                self._auto = Isolation.DOCKER
                log.info("`isolation: auto` means docker")
        return self._auto
