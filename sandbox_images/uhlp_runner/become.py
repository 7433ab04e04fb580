"""Become another program, shut in as an instance is: how packages are installed on the host itself.

The configuration file of an instance then has two more keys: `command`, the program with its arguments, and
`variables`, its environment beyond what every process of a sandbox has.

Not `program_run`: an installer leaves its work on the host's disk, needs more address space than that allows
(Node reserves it), and must run wherever instances do, also where the kernel has no spaces to shut it in.
"""

import json
import os
import resource
from pathlib import Path
from typing import Any, NoReturn

from . import confine
from .config import Config
from .limits import lower

MAX_FILE_BYTES = 1 << 30
"""Of one file that is written: larger than any package."""


def main(config: Config, path: str) -> NoReturn:
    """Give up what the program does not need, then become it. Raises OSError if it cannot be started."""
    document: dict[str, Any] = json.loads(Path(path).read_text())
    command, limits = document["command"], config.limits
    confine.shut_in(config)
    confine.adopt_orphans()  # So that whoever ends this process finds all that it left behind.
    os.chdir(config.dir)
    # Not the address space: Node reserves far more of it than it uses.
    lower(resource.RLIMIT_DATA, limits["memoryBytes"])
    lower(resource.RLIMIT_NPROC, limits["maxProcesses"])
    lower(resource.RLIMIT_NOFILE, limits["maxOpenFiles"])
    lower(resource.RLIMIT_CPU, limits["cpuSeconds"])
    lower(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    lower(resource.RLIMIT_CORE, 0)
    os.execve(command[0], command, {**os.environ, **document["variables"]})  # noqa: S606
