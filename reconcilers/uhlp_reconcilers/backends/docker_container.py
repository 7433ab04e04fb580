"""The container of one instance: what it may do and use, and whether somebody has changed that since.

Pure: from a spec to the engine's description of a container, and from the engine's account of one to a
verdict. Speaks with no engine.
"""

import json
import signal
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from uhlp_state.model.pools import Language

from .docker_engine import Details
from .protocol import InstanceSpec

RUNNER = PurePosixPath("/opt/uhlp/uhlp_runner")
"""Where every image has its runner."""

TREES = PurePosixPath("/uhlp/trees")
LOG = PurePosixPath("/uhlp/app.log")
"""Where a container sees its app's trees and its app's log. Its instance's folder it sees where that is on
the host: requests name `mcp.sock` by that path."""

TEMPLATING = PurePosixPath("/opt/uhlp/templating")
"""Where every image has the packages that prompts are rendered with."""

LIBRARIES = ("/usr/lib/python3/dist-packages", "/opt/uhlp/libraries")
"""Where the runner looks for `orjson`: Debian's first, which fits Debian's interpreter for certain."""

TMP_BYTES = 64 << 20
"""Size of a container's /tmp, the one place where handlers can keep files. It counts as memory."""

SHARED_MEMORY_BYTES = 16 << 20
"""Size of /dev/shm, which Python's multiprocessing needs for its locks. It counts as memory too."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a container has beyond the pool's limits: the runner's own."""

    memory: int
    """In bytes. A handler that takes all it may then meets its own limit, with an answer that says so, before
    the whole instance meets the container's."""
    processes: int
    """And threads. What handlers may start is held by the runner; this stops what it cannot hold."""
    processes_per_request: int
    """For each request at once, likewise."""


ALLOWANCES = {
    Language.PYTHON: Allowance(memory=64 << 20, processes=32, processes_per_request=2),
    # A process of Node.js has a dozen threads and some 20 MiB of its own, and up to ten wait for a request.
    Language.JAVASCRIPT: Allowance(memory=256 << 20, processes=160, processes_per_request=14),
}

RUNNER_FILES = 1024
"""Open files beyond `maxOpenFiles` and eight for each request at once, likewise."""

GVISOR_BYTES = 128 << 20
"""Memory beyond that where gVisor is the kernel: its own, which is a process of the container."""

GVISOR_TASKS = 16
"""So many tasks of the host gVisor may take for each process or thread that a container may have."""

OOM_SCORE = 500
"""When the machine runs out of memory, the kernel takes sandboxes before daemons."""

SEALED_OUTPUT = {"Type": "json-file", "Config": {"max-size": "64k", "max-file": "1"}}
"""The engine's own log of a container holds only why it could not start; see `_ENTRYPOINT`."""

# Output goes straight into the app's log, which is mounted: nothing between that could block a handler,
# lose a line, or have to be running. Rotation truncates the file, so it stays the same file.
_ENTRYPOINT = ["/bin/sh", "-c", f'exec "$0" "$@" >>{LOG} 2>&1', "python3", "-I", "-S", str(RUNNER)]

HOME_LABEL = "uhlp.home"
INSTANCE_LABEL = "uhlp.instance"
APP_LABEL = "uhlp.app"
DEPLOYMENT_LABEL = "uhlp.deployment"
POOL_LABEL = "uhlp.pool"
SPEC_LABEL = "uhlp.spec"
STARTED_LABEL = "uhlp.started"
_LIMITS_LABEL = "uhlp.limits"

REMOVED = "its container was removed by hand"
"""Why an instance ended whose container is not there any more."""

_CHANGEABLE = (
    "Memory",
    "MemorySwap",
    "MemoryReservation",
    "NanoCpus",
    "CpuShares",
    "CpuQuota",
    "CpuPeriod",
    "CpusetCpus",
    "CpusetMems",
    "PidsLimit",
    "BlkioWeight",
)
"""What `docker update` can change of a running container."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What differs from one machine, home and moment to the next, for one container."""

    home: str
    """The mark of the home; see `HOME_LABEL`."""
    image: str
    user: int
    group: int
    folder: Path
    """Absolute, and the same for the container."""
    config: str
    """The name of the runner's configuration in the folder."""
    started_at: float
    runtime: str | None
    """None for the engine's own default."""


def description(spec: InstanceSpec, placement: Placement, *more: str) -> Details:
    """The container as the engine is asked for it, hardened as docs/docker.md says.

    `more` are arguments of the runner beyond its configuration.
    """
    host = _host(spec, placement)
    return {
        "Image": placement.image,
        "Entrypoint": [*_ENTRYPOINT, "--config", str(placement.folder / placement.config), *more],
        "Cmd": [],
        "User": f"{placement.user}:{placement.group}",
        "Env": ["LANG=C.UTF-8"],
        "WorkingDir": "/",
        "Hostname": "sandbox",
        "Labels": labels(spec, placement) | {_LIMITS_LABEL: _limits(host)},
        "HostConfig": host,
    }


def labels(spec: InstanceSpec, placement: Placement) -> dict[str, str]:
    """What a container says about itself; also what is kept of it in case that it is removed by hand."""
    return {
        HOME_LABEL: placement.home,
        INSTANCE_LABEL: spec.instance,
        APP_LABEL: spec.app,
        DEPLOYMENT_LABEL: spec.deployment,
        POOL_LABEL: spec.pool,
        SPEC_LABEL: spec.spec_hash,
        STARTED_LABEL: repr(placement.started_at),
    }


def drift(details: Details) -> str | None:
    """How a container is not any more what it was made as; None if it is."""
    if details["State"]["Paused"]:
        return "paused by hand"
    if _limits(details["HostConfig"]) != details["Config"]["Labels"].get(_LIMITS_LABEL):
        return "its limits were changed by hand"
    networks = set(details["NetworkSettings"]["Networks"]) - {"none"}
    if networks:
        return f"connected to the network {min(networks)} by hand"
    return None


def ending(details: Details) -> str:
    """Why a container that has stopped did so."""
    state = details["State"]
    code = state["ExitCode"]
    if state["Status"] == "created":
        return f"never started: {state['Error']}" if state["Error"] else "never started"
    if state["Status"] == "removing" or state["Dead"]:
        return REMOVED
    if state["OOMKilled"] and code == 128 + signal.SIGKILL:
        limit = details["HostConfig"]["Memory"] >> 20
        return f"out of memory: killed by the kernel at the container's limit of {limit} MiB"
    if code > 128 and code - 128 in signal.valid_signals():
        return f"killed by {signal.Signals(code - 128).name}"
    return f"exited with status {code}"


def _host(spec: InstanceSpec, placement: Placement) -> Details:
    host: Details = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": f"rw,noexec,nosuid,nodev,size={TMP_BYTES},mode=1777"},  # noqa: S108
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        "ShmSize": SHARED_MEMORY_BYTES,
        "Init": True,
        "OomScoreAdj": OOM_SCORE,
        "Ulimits": _ulimits(spec),
        "RestartPolicy": {"Name": "no"},  # It is replaced, by somebody who knows whether it is still wanted.
        "LogConfig": SEALED_OUTPUT,
        "Mounts": [
            mount(spec.trees.resolve(), TREES, read_only=True),
            mount(placement.folder, placement.folder, read_only=False),
            mount(spec.log, LOG, read_only=False),
            *(mount(path, path, read_only=True) for path in spec.env_paths),
            *(
                mount(Path(wanted.source), PurePath(wanted.target), read_only=not wanted.writable)
                for wanted in spec.mounts
            ),
        ],
        **_resources(spec, has_own_kernel=placement.runtime is not None),
    }
    return host | ({"Runtime": placement.runtime} if placement.runtime else {})


def _resources(spec: InstanceSpec, *, has_own_kernel: bool) -> Details:
    limits, allowance = spec.limits, ALLOWANCES[spec.language]
    memory = limits.memory_bytes + allowance.memory + (GVISOR_BYTES if has_own_kernel else 0)
    own = allowance.processes + spec.concurrency * allowance.processes_per_request
    return {
        "Memory": memory,
        "MemorySwap": memory,  # The same means: no swap.
        "NanoCpus": round(limits.cpu_cores * 1_000_000_000),
        "PidsLimit": (limits.max_processes + own) * (GVISOR_TASKS if has_own_kernel else 1),
    }


def _ulimits(spec: InstanceSpec) -> list[Details]:
    files = spec.limits.max_open_files + 8 * spec.concurrency + RUNNER_FILES
    return [
        {"Name": "nofile", "Soft": files, "Hard": files},
        {"Name": "core", "Soft": 0, "Hard": 0},
    ]


def mount(source: Path, target: PurePath, *, read_only: bool) -> Details:
    """A file or folder of the host as a container sees it."""
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": str(target),
        "ReadOnly": read_only,
        # What is mounted somewhere below would be seen too, and writable even where this is not.
        "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
    }


def _limits(host: dict[str, Any]) -> str:
    """What of a container's limits can be changed while it runs, as one line to compare."""
    # The engine answers 0, "" or null for what was never set.
    return json.dumps([host.get(name) or None for name in _CHANGEABLE])
