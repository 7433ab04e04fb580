"""The Node.js that runs JavaScript where instances are processes of this machine: the daemon's own."""

import re
import shutil
import subprocess
from functools import cache

from .protocol import BackendError

NAME = "node"
"""What the program is called, here and in images."""

OLDEST = (18, 20)
"""The oldest version with all that the runner uses; Debian 12's."""

_VERSION_SECONDS = 10
_REMEDY = "install Node.js 20 or newer (`apt-get install nodejs`), or run the pool with isolation: docker"


def path() -> str:
    """Where Node.js is on PATH. Raises BackendError where there is none, or it is too old."""
    found = shutil.which(NAME)
    if found is None:
        raise BackendError(f"a pool of uhlp/node_runner needs Node.js, and there is none on PATH; {_REMEDY}")
    found_version = version(found)
    if found_version < OLDEST:
        older = ".".join(map(str, found_version))
        raise BackendError(f"{found} is Node.js {older}, too old for a pool of uhlp/node_runner; {_REMEDY}")
    return found


@cache
def version(program: str) -> tuple[int, int]:
    """Major and minor; asked once, so a daemon keeps to what it knew first. Raises BackendError."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=True, timeout=_VERSION_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BackendError(f"{program} does not tell its version: {error}; {_REMEDY}") from error
    match = re.match(r"v(\d+)\.(\d+)\.", done.stdout)
    if match is None:
        raise BackendError(f"{program} is not Node.js: its version is {done.stdout[:40]!r}; {_REMEDY}")
    return int(match[1]), int(match[2])
