"""Appending to an app's log, which gateways, sandboxes and the MCP daemon write at the same time."""

import os
from pathlib import Path


def append(path: Path, lines: bytes) -> None:
    """Append with one write, so that lines of several processes never mix; raises OSError.

    The file is opened anew each time: it may have been rotated or removed meanwhile.
    """
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path)
    try:
        os.write(descriptor, lines)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
