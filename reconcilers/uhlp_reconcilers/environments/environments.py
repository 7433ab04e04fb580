"""The environments of the wanted revisions: which are there, which are being installed, which cannot be.

Asked by the sandboxes daemon at every look; never waits for an installation. Environments that several
deployments want are installed once. What failed is told once to each that asked, and then forgotten: whoever
asks with another commit has mended something.
"""

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from uhlp_core.settings import Settings
from uhlp_reconcilers.backends.protocol import BackendError
from uhlp_state.dependencies import Dependencies, read_dependencies
from uhlp_state.documents import RegistryDoc, Revision
from uhlp_state.export import sweep
from uhlp_state.model import PoolDefinition
from uhlp_state.model.pools import Isolation, Language

from .installer import FOLDERS, Installer, InstallFailed, InstallRefused, Order
from .installing import InstallStopped, install

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Installations side by side; each may take a core."""

FIRST_PAUSE = 1.0
MAX_PAUSE = 300.0
"""Seconds before an installation that failed for an outside reason is tried again, at first and at most."""

Resolved = Callable[[Isolation], Awaitable[Isolation]]


@dataclass(slots=True)
class Survey:
    """What there is for the wanted revisions of one deployment."""

    packages: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """By pool spec, the folders of its packages. A spec that is not here cannot be started yet."""
    pending: dict[str, str] = field(default_factory=dict)
    """By commit, how far the installation is that it waits for."""
    delayed: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By commit, why its installation failed for now, and in how many seconds it is tried again."""
    refused: dict[str, str] = field(default_factory=dict)
    """By commit, why its packages cannot be installed. Said once."""


@dataclass(slots=True)
class _Installation:
    """One environment on its way."""

    askers: set[tuple[str, str]]
    """Deployments with the commits that want it."""
    stop: threading.Event = field(default_factory=threading.Event)
    task: asyncio.Task[None] | None = None
    line: str = "waiting for its turn"
    problem: str | None = None
    """Why it did not succeed."""
    is_final: bool = False
    """Whether trying again would end likewise."""
    failures: int = 0
    not_before: float = 0.0
    """When it is tried again, on the monotonic clock."""


class Environments:
    """The folder of environments of one home. Only the sandboxes daemon, of which there is one, writes it."""

    def __init__(
        self, settings: Settings, installers: Mapping[Isolation, Installer], resolved: Resolved
    ) -> None:
        """`resolved` says which of PROCESS, DOCKER and GVISOR a pool gets; `installers` has one for each."""
        self._settings = settings
        self._installers = installers
        self._resolved = resolved
        self._threads = ThreadPoolExecutor(AT_ONCE, "install")
        self._under_way: dict[Path, _Installation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.enqueue: Callable[[str], None] = lambda deployment: None
        # What a daemon that was killed has left; nobody else installs here.
        sweep(settings.home.environments, older_than_seconds=0)

    async def survey(self, wanted: RegistryDoc, refused: Container[str], serving: Container[str]) -> Survey:
        """What there is for each wanted revision that is not refused; what lacks is being installed then.

        A revision of whose pools one is `serving` (by its spec) is not refused any more: its packages were
        good once, and are tried again with pauses. Raises BackendError, OSError.
        """
        found = Survey()
        asking: set[Path] = set()
        for revision in wanted.revisions:
            if revision.commit in refused:
                continue
            for name, pool in revision.snapshot.pools.items():
                if revision.commit in found.refused:
                    break
                spec = revision.snapshot.pool_spec(name)
                digest = revision.snapshot.environments.get(pool.language)
                if digest is None:
                    found.packages[spec] = ()
                    continue
                installer = self._installers[await self._resolved(pool.isolation)]
                place = await self._place(installer, digest, pool)
                asking.add(place)
                if place.is_dir():
                    found.packages[spec] = (place / FOLDERS[pool.language],)
                    os.utime(place.parent)  # The cleanup spares what was asked for lately.
                else:
                    order = (wanted, revision, pool)
                    self._look(found, place, installer, *order, may_refuse=spec not in serving)
        self._stop_unwanted(wanted.deployment, asking)
        return found

    def forget(self, deployment: str) -> None:
        """A deployment is gone: stop what was installed for it alone."""
        self._stop_unwanted(deployment, set())

    async def close(self) -> None:
        """Stop every installation and wait for their ends."""
        for one in self._under_way.values():
            one.stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown()

    # -- one environment -------------------------------------------------------------------------------

    async def _place(self, installer: Installer, digest: str, pool: PoolDefinition) -> Path:
        target = await asyncio.to_thread(installer.target, pool.language, pool.docker_image)
        return self._settings.home.environments / digest / target

    def _look(
        self,
        found: Survey,
        place: Path,
        installer: Installer,
        wanted: RegistryDoc,
        revision: Revision,
        pool: PoolDefinition,
        *,
        may_refuse: bool,
    ) -> None:
        """Say how far an environment is that is not there yet; start to install it if nobody has."""
        asker = (wanted.deployment, revision.commit)
        one = self._under_way.get(place)
        if one is None or (one.is_final and may_refuse and asker not in one.askers):
            one = self._under_way[place] = _Installation(askers={asker})
        one.askers.add(asker)
        pause = one.not_before - time.monotonic()
        if one.problem and one.is_final and may_refuse:
            found.refused[revision.commit] = one.problem
            one.askers.discard(asker)
            if not one.askers:
                del self._under_way[place]
        elif one.problem and pause > 0:
            found.delayed[revision.commit] = (one.problem, pause)
        else:
            if one.task is None:
                tree = self._settings.home.trees / wanted.app / revision.tree
                order = Order(_dependencies(tree, pool.language), pool.docker_image)
                one.problem, one.is_final = None, False
                one.task = asyncio.create_task(self._install(one, place, installer, order))
                self._tasks.add(one.task)
                one.task.add_done_callback(self._tasks.discard)
            found.pending[revision.commit] = one.line

    async def _install(self, one: _Installation, place: Path, installer: Installer, order: Order) -> None:
        loop = asyncio.get_running_loop()

        def tell(line: str) -> None:
            loop.call_soon_threadsafe(self._tell, one, line)

        log.info("installing packages into %s", place)
        arguments = (installer, order, place, self._settings, tell, one.stop)
        try:
            await loop.run_in_executor(self._threads, install, *arguments)
        except InstallRefused as error:
            self._note(one, str(error), is_final=True)
        except InstallStopped:
            log.info("stopped installing packages that nobody wants any more")
            self._drop(place, one)
        except (InstallFailed, BackendError, OSError) as error:
            self._note(one, str(error), is_final=False)
        except Exception as error:  # A bug of ours must not keep an app waiting for ever.
            log.exception("installing packages into %s failed", place)
            self._note(one, f"{type(error).__name__}: {error}", is_final=False)
        else:
            log.info("installed packages into %s", place)
            self._drop(place, one)
        one.task, one.line = None, "waiting for its turn"
        self._wake(one)

    def _note(self, one: _Installation, problem: str, *, is_final: bool) -> None:
        pause = min(MAX_PAUSE, FIRST_PAUSE * 2.0**one.failures)
        pause *= random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries, decides nothing
        log.warning("packages are not installed: %s", problem)
        one.failures += 1
        one.problem, one.is_final, one.not_before = problem, is_final, time.monotonic() + pause

    def _drop(self, place: Path, one: _Installation) -> None:
        if self._under_way.get(place) is one:
            del self._under_way[place]

    def _tell(self, one: _Installation, line: str) -> None:
        one.line = line
        self._wake(one)

    def _wake(self, one: _Installation) -> None:
        for deployment in {deployment for deployment, _ in one.askers}:
            self.enqueue(deployment)

    def _stop_unwanted(self, deployment: str, asking: Container[Path]) -> None:
        for place, one in list(self._under_way.items()):
            if place not in asking:
                one.askers = {asker for asker in one.askers if asker[0] != deployment}
                if not one.askers:
                    one.stop.set()
                    del self._under_way[place]


def _dependencies(tree: Path, language: Language) -> Dependencies:
    """What an exported tree asks for in one language, of which its snapshot says that it does."""

    def read(path: str) -> bytes | None:
        try:
            return (tree / path).read_bytes()
        except FileNotFoundError:
            return None

    [found] = [wanted for wanted in read_dependencies(read) if wanted.language == language]
    return found
