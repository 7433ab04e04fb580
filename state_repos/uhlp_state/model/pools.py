"""Sandbox pools: what components run in (specification 3.1.2, SandboxPoolConfig)."""

from __future__ import annotations

import hashlib
import json
import re
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from uhlp_state.model.base import KEY, Count, Model, Number, any_case, refusal
from uhlp_state.model.mounts import Mount, MountText
from uhlp_state.model.patterns import POOL_NAME
from uhlp_state.problems import Code, quoted

DEFAULT_IMAGE = "uhlp/python_runner"
NODE_IMAGE = "uhlp/node_runner"
LLM_IMAGE = "uhlp/llm_orchestrator"
OWN_IMAGES = (DEFAULT_IMAGE, NODE_IMAGE, LLM_IMAGE)
"""What every platform allows, since it brings them."""

MIN_MEMORY = 16 * 1024 * 1024
"""A Python interpreter alone needs about this much."""
MAX_MEMORY = 1024 * 1024**3
MAX_CORES = 1024
MAX_INSTANCES = 1000
"""Of one pool: a typing mistake beyond this is not worth trying to start."""
MAX_STANDBY = 20
"""Each costs the memory of a running instance; a pool that needs more wants a higher `minInstances`."""

_CORES = re.compile(r"([0-9]{1,7})m|([0-9]{1,4}(?:\.[0-9]{1,3})?)")
_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([KMG]?)i?B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


class ExecutionMode(StrEnum):
    """How an instance runs a handler."""

    INTERPRETER = "interpreter"
    FORK = "fork"
    SERVER = "server"


class Language(StrEnum):
    """What handlers are written in."""

    PYTHON = "python"
    JAVASCRIPT = "javascript"


class Isolation(StrEnum):
    """What keeps an instance apart from the host."""

    AUTO = "auto"
    PROCESS = "process"
    DOCKER = "docker"
    GVISOR = "gvisor"


def language_of(image: str) -> Language:
    """What an instance of this image runs: JavaScript by `uhlp/node_runner`, Python by every other."""
    return Language.JAVASCRIPT if image == NODE_IMAGE else Language.PYTHON


def _parse_cores(text: str) -> float | None:
    match = _CORES.fullmatch(text)
    if match is None:
        return None
    cores = int(match[1]) / 1000 if match[1] else float(match[2])
    return cores if 0 < cores <= MAX_CORES else None


def parse_memory(text: str) -> int | None:
    """Bytes of a size such as `256M`; None if it is none, or out of range."""
    match = _MEMORY.fullmatch(text)
    if match is None:
        return None
    size = int(float(match[1]) * _UNITS[match[2].upper()])
    return size if MIN_MEMORY <= size <= MAX_MEMORY else None


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _check_cores(value: object) -> object:
    text = _number_as_text(value)
    if isinstance(text, str) and _parse_cores(text) is None:
        message = f"{KEY} must be a number of cores above 0 and up to {MAX_CORES}, got {quoted(text)}"
        raise refusal(Code.BAD_LIMIT, message, 'write cores like "0.5", or thousandths like "500m"')
    return text


def _check_memory(value: object) -> object:
    text = _number_as_text(value)
    if isinstance(text, str) and parse_memory(text) is None:
        message = f"{KEY} must be a size between 16M and 1024G, got {quoted(text)}"
        raise refusal(Code.BAD_LIMIT, message, 'write a size like "256M" or "1G"')
    return text


_QUANTITY: dict[str, Any] = {"type": ["string", "number"]}
Cores = Annotated[str, BeforeValidator(_check_cores), WithJsonSchema(_QUANTITY)]
Memory = Annotated[str, BeforeValidator(_check_memory), WithJsonSchema(_QUANTITY)]


class ResourceLimits(Model):
    """What one instance of a pool may use."""

    cpu_limit: Cores = "1"
    """CPU cores: `"0.5"`, or thousandths as `"500m"`. Default 1."""
    memory_limit: Memory = "256M"
    """Memory in bytes with K, M or G (1,024 each): `"512M"`. At least 16M, default 256M."""
    max_processes: Count = Field(default=32, ge=1, le=4096)
    """Processes and threads at once. Default 32."""
    max_output_bytes: Count = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    """Bytes that one request may print, and that its result may have. Default 1 MiB."""
    max_open_files: Count = Field(default=256, ge=16, le=65536)
    """Open files and sockets per process. Default 256."""

    @property
    def cpu_cores(self) -> float:
        """`cpu_limit` in cores."""
        cores = _parse_cores(self.cpu_limit)
        assert cores is not None, "checked when the model was built"
        return cores

    @property
    def memory_bytes(self) -> int:
        """`memory_limit` in bytes."""
        size = parse_memory(self.memory_limit)
        assert size is not None, "checked when the model was built"
        return size


class PoolDefinition(Model):
    """A group of equal sandbox instances."""

    pool_name: str = Field(pattern=POOL_NAME)
    """Unique in the app: lower-case letters, digits, `_` and `-`, e.g. `python_runner`."""
    docker_image: str = Field(default=DEFAULT_IMAGE, pattern=r"^[a-z0-9][A-Za-z0-9._/:@-]{0,255}$")
    """Image of the instances where they are containers, e.g. `acme/runner:1.2`. Default `uhlp/python_runner`.
    With `uhlp/node_runner` the pool runs JavaScript, as processes too."""
    min_instances: Count = Field(default=1, ge=0, le=MAX_INSTANCES)
    """Instances kept running; 0 starts one at the first request and holds that meanwhile. Default 1."""
    max_instances: Count = Field(default=1, ge=1, le=MAX_INSTANCES)
    """Most instances that serve at once: as many run as the load needs. At least `minInstances`.
    Default: `minInstances`, or 1 if that is 0."""
    standby_instances: Count | None = Field(default=None, ge=0, le=MAX_STANDBY)
    """Instances kept up and loaded beside those that serve, to take a place within milliseconds.
    Default 1 while the pool is awake and may grow, else 0. Previews keep none."""
    scale_down_after_seconds: Number = Field(default=60, ge=1, le=86_400)
    """Seconds that an instance above `minInstances` must have been unneeded before it stops. Default 60."""
    resource_limits: ResourceLimits = ResourceLimits()
    """What one instance may use."""
    volume_mounts: tuple[MountText, ...] = ()
    """Mounts as `host:container[:ro|rw]`, read-only by default, in containers only. Refused unless the
    platform allows them. Default none."""
    execution_mode: Annotated[ExecutionMode, *any_case(ExecutionMode)] = ExecutionMode.FORK
    """`interpreter`: a new interpreter per request. `fork` (default): a fresh copy of a warm one.
    `server`: a persistent worker."""
    concurrency: Count = Field(default=8, ge=1, le=256)
    """Requests that one instance takes at once. Default 8."""
    timeout_seconds: Number = Field(default=30, gt=0, le=900)
    """Seconds that a handler may run. Default 30."""
    max_queue: Count = Field(default=100, ge=0, le=100_000)
    """Requests that may wait for a free instance; more are refused with 503. Default 100."""
    queue_timeout_seconds: Number = Field(default=5, ge=0, le=900)
    """Seconds that a request may wait for a free instance. Default 5."""
    isolation: Annotated[Isolation, *any_case(Isolation)] = Isolation.AUTO
    """`auto` (default) takes the strongest that the host offers; or `process`, `docker`, `gvisor`."""

    @model_validator(mode="before")
    @classmethod
    def _default_max_instances(cls, data: Any) -> Any:
        if isinstance(data, dict) and "maxInstances" not in data and "max_instances" not in data:
            least = data.get("minInstances", data.get("min_instances", 1))
            if isinstance(least, int) and least > 1:
                return {**data, "maxInstances": least}
        return data

    @model_validator(mode="after")
    def _check_instances(self) -> Self:
        if self.max_instances < self.min_instances:
            message = f"maxInstances ({self.max_instances}) is below minInstances ({self.min_instances})"
            raise refusal(Code.BAD_LIMIT, message, "raise maxInstances or lower minInstances")
        return self

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """`volume_mounts` taken apart."""
        return tuple(map(Mount.parse, self.volume_mounts))

    @property
    def language(self) -> Language:
        """What its components are written in."""
        return language_of(self.docker_image)

    def spec_hash(self) -> str:
        """A short stable hash of everything that shapes an instance; how many there are does not."""
        shape = {
            "image": self.docker_image,
            "mode": self.execution_mode.value,
            "concurrency": self.concurrency,
            "timeout": float(self.timeout_seconds),
            "mounts": self.volume_mounts,
            "isolation": self.isolation.value,
            # The quantities, not their spelling: "0.5" and "500m" are the same instance.
            "cores": self.resource_limits.cpu_cores,
            "memory": self.resource_limits.memory_bytes,
            "processes": self.resource_limits.max_processes,
            "output": self.resource_limits.max_output_bytes,
            "files": self.resource_limits.max_open_files,
        }
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:12]


class SandboxPoolConfig(Model):
    """All pools of an app."""

    pools: tuple[PoolDefinition, ...] = ()
    """The pools, by unique name."""
