"""Starts one program shut in by `uhlp_runner`, with pipes for its standard streams; reads none of them."""

import asyncio
import importlib.util
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uhlp_core.errors import UhlpError

NOT_CONFINED, NOT_STARTED = 125, 126
"""As `uhlp_runner.program_run` ends where nothing has run."""

STREAM_BYTES = 64 * 1024
"""Default of the longest line that is read, as asyncio has it."""

MAX_TOLD = 500
"""Characters of what a program said that a message has."""

_INTERPRETER = os.path.realpath(sys.executable)
"""Not a virtual environment's link to it: it is run where the link is not to be seen."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a program has, and how much of it."""

    uid: int
    """The user that it runs as where the daemon is root."""
    folder: Path
    """Its own folder; made where it is not there."""
    hidden: Path
    """The platform's home, which it does not see, except for its folder."""
    network: bool
    """Whether it keeps the host's network."""
    memory_bytes: int
    """Of each of its processes."""
    max_processes: int
    cpu_seconds: int
    """0 for no bound."""
    timeout_seconds: float
    """From the program's start; then its process ends by SIGALRM. 0 for no bound."""
    tmp_bytes: int
    """Of its temporary folder, and of one file."""
    max_open_files: int = 64
    address_space: int | None = None
    """Bytes that it may reserve beyond its memory; None for the runner's default."""
    readable: Sequence[str] = ()
    """Folders that it reads, besides the system's."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Its environment. May hold secrets: it is told to the runner in memory, never on a command line."""
    keeps_files: bool = False
    """Whether it works in its folder, instead of in its temporary one."""


async def start(
    program: int, arguments: Sequence[str], confinement: Confinement, *, line_bytes: int = STREAM_BYTES
) -> asyncio.subprocess.Process:
    """Start the open `program`; `arguments` begin with its name.

    Killing the process ends all that it has started, and so does the end of this daemon. Raises UhlpError,
    OSError.
    """
    own = confinement.folder
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(own, confinement.uid, confinement.uid)
    config = os.memfd_create("uhlp-command", os.MFD_CLOEXEC)
    try:
        os.write(config, json.dumps(_config(confinement)).encode())
        return await asyncio.create_subprocess_exec(
            _INTERPRETER,
            "-I",
            "-S",
            _runner_folder(),
            "--config",
            f"/proc/self/fd/{config}",
            "--run",
            str(program),
            "--",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(config, program),
            env={},
            start_new_session=True,
            limit=line_bytes,
        )
    finally:
        os.close(config)


def told(said: str) -> str:
    """The end of what a program said, for a message. Secrets are taken out before: a part is not found."""
    return said.strip()[-MAX_TOLD:]


def _config(confinement: Confinement) -> dict[str, object]:
    """A configuration of `uhlp_runner`; see docs/architecture.md, "The runner's doors"."""
    uid = confinement.uid if os.geteuid() == 0 else None
    folder = str(confinement.folder)
    program: dict[str, object] = {
        "variables": dict(confinement.variables),
        "keepsFiles": confinement.keeps_files,
    }
    if confinement.address_space is not None:
        program["addressSpaceBytes"] = confinement.address_space
    return {
        "app": "",
        "deployment": "",
        "pool": "",
        "instance": confinement.folder.name,
        "mode": "interpreter",
        "language": "python",
        "node": "",
        "concurrency": 1,
        "trees": folder,
        "dir": folder,
        "environment": list(confinement.readable),
        "libraries": [],
        "templating": [],
        "limits": {
            "memoryBytes": confinement.memory_bytes,
            "cpuSeconds": confinement.cpu_seconds,
            "timeoutMs": math.ceil(confinement.timeout_seconds * 1000),
            "maxProcesses": confinement.max_processes,
            "maxOutputBytes": 0,
            "maxOpenFiles": confinement.max_open_files,
        },
        "isolation": {
            "uid": uid,
            "gid": uid,
            "network": confinement.network,
            "tmpBytes": confinement.tmp_bytes,
            "hidden": [str(confinement.hidden)],
        },
        "program": program,
    }


def _runner_folder() -> str:
    spec = importlib.util.find_spec("uhlp_runner")
    if spec is None or not spec.submodule_search_locations:
        raise UhlpError("the package uhlp_runner is not installed; install uhlp again")
    return spec.submodule_search_locations[0]
