"""Writes the hooks of all state repos to `<home>/hooks`, where every repo's `core.hooksPath` points."""

import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from uhlp_core.home import Home

HOOKS = ("pre-receive", "post-receive")
MAX_SHEBANG = 120
"""Bytes of a `#!` line that every kernel reads."""
DEFAULT_WAIT_SECONDS = 10.0
"""How long a push waits to tell that its commit is live."""


def install_hooks(home: Home, wait_seconds: float = DEFAULT_WAIT_SECONDS) -> None:
    """Write both hooks, each whole or not at all; a hook that is as it should be is left alone."""
    home.hooks.mkdir(parents=True, exist_ok=True)
    for hook in HOOKS:
        path, content = home.hooks / hook, _script(hook, home, wait_seconds).encode()
        if path.exists() and path.read_bytes() == content and os.access(path, os.X_OK):
            continue
        descriptor, building = tempfile.mkstemp(prefix=f".{hook}-", dir=home.hooks)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, 0o755)
        Path(building).replace(path)


def _script(hook: str, home: Home, wait_seconds: float) -> str:
    client = Path(__file__).with_name("client.py").read_text()
    arguments = (hook, str(home.receive_socket), sys.executable, wait_seconds)
    return f"{_first_lines(_base_python())}{client}\n\nposix._exit(run{arguments!r})\n"


def _base_python() -> str:
    """The interpreter behind this one: neither a virtual environment's nor a version manager's script."""
    version = sysconfig.get_python_version()
    candidates = (Path(sys.base_prefix) / "bin" / name for name in (f"python{version}", "python3"))
    return str(next((path for path in candidates if path.exists()), Path(sys.executable).resolve()))


def _first_lines(python: str) -> str:
    shebang = f"#!{python} -IS\n"
    if " " not in python and len(os.fsencode(shebang)) <= MAX_SHEBANG:
        return shebang
    # A path that `#!` cannot hold: the shell starts Python on this same file, to which the line is a string.
    quoted = python.replace("'", "'\\''")
    return f"#!/bin/sh\n''':'\nexec '{quoted}' -IS \"$0\"\n'''\n"
