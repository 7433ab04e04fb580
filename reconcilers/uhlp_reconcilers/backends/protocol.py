"""What the sandboxes reconciler asks of whatever runs its instances."""

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from uhlp_core.errors import UhlpError
from uhlp_state.model.mounts import Mount
from uhlp_state.model.pools import DEFAULT_IMAGE, Isolation, Language, ResourceLimits, language_of

from . import procfs


class BackendError(UhlpError):
    """The backend could not do, or could not say: never to be taken for "there is nothing"."""

    code = "SANDBOX_BACKEND_FAILED"


def not_started(instance: str, error: OSError) -> BackendError:
    """What to say when the machine does not let an instance be started."""
    remedy = "; free some space: it is tried again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return BackendError(f"{instance}: could not be started: {error}{remedy}")


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One instance as it should be."""

    instance: str
    app: str
    deployment: str
    pool: str
    spec_hash: str
    """Everything that shapes an instance, hashed; never its code."""
    mode: str
    """`interpreter`, `fork` or `server`."""
    concurrency: int
    """Requests at once."""
    timeout_seconds: float
    """For a request that brings no timeout of its own, and for importing a revision's handlers."""
    limits: ResourceLimits
    trees: Path
    """The folder of the app's exported trees."""
    log: Path
    """The app's log, which is appended to."""
    env_paths: tuple[Path, ...] = ()
    """Folders of packages that handlers may import beyond the standard library."""
    image: str = DEFAULT_IMAGE
    """What a container is made from; a process learns from it no more than the language."""
    isolation: Isolation = Isolation.AUTO
    """What the pool asks for: a backend that can do several looks at it."""
    mounts: tuple[Mount, ...] = ()
    """What else of the host it sees. The platform allows them; the backend refuses what leads elsewhere."""

    @property
    def language(self) -> Language:
        """What the handlers are written in."""
        return language_of(self.image)


@dataclass(slots=True)
class Instance:
    """One instance as it is."""

    backend: str
    """The name of the backend that runs it."""
    instance: str
    app: str
    deployment: str
    pool: str
    spec: str
    """The spec hash it was started with."""
    pid: int
    """Its runner's main process; 0 if it was never started."""
    start_ticks: int
    """When that process started, in ticks since boot: with the pid it names one process for good."""
    started_at: float
    """Unix time in seconds."""
    dir: Path
    """Holds `execute.sock`, the lanes and `mcp.sock`."""
    exit_reason: str | None = None
    """Why it no longer runs, once that is known."""
    container: str | None = None
    """What its container is called in the engine, where it is one."""
    is_outdated: bool = False
    """Whether it runs an image with the runner of another version of this installation."""

    @property
    def alive(self) -> bool:
        """Whether the runner's main process runs now."""
        return procfs.is_running(self.pid, self.start_ticks)


@dataclass(frozen=True, slots=True)
class InstanceStats:
    """What an instance, with all its processes, uses."""

    memory_bytes: int
    """Without what the kernel could drop at once. Summed over processes, shared pages count for each."""
    memory_limit_bytes: int | None
    """Of the instance as a whole; None if only its processes have limits."""
    cpu_seconds: float
    """Since it was started."""
    processes: int
    """And threads, where a control group counts them."""


class SandboxBackend(Protocol):
    """Runs instances."""

    def protection(self) -> tuple[list[str], list[str]]:
        """The measures that an instance started now would have in force, and those it would lack."""
        ...

    async def ensure(self, spec: InstanceSpec) -> Instance:
        """Create and start the instance, or find it running. Raises BackendError."""
        ...

    async def list(self) -> list[Instance]:
        """Every instance of this home, whoever started it.

        Raises BackendError rather than returning less than the truth.
        """
        ...

    async def remove(self, instance: Instance, *, grace: float) -> None:
        """Drain it for at most `grace` seconds, end all of its processes and remove its folder."""
        ...

    async def wait(self, instance: Instance) -> None:
        """Return once the instance's main process has ended; `exit_reason` is then set."""
        ...

    def logs(self, instance: Instance) -> Path:
        """The file its output is appended to. Raises BackendError."""
        ...

    async def stats(self, instance: Instance) -> InstanceStats:
        """What it uses now. Raises BackendError."""
        ...
