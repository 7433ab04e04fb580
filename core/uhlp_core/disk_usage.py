"""How much of the disk a folder takes, though whoever may write in it works against the count."""

import contextlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 512
"""What `st_blocks` counts in."""

MAX_DEPTH = 64
"""Folders within folders; one further in counts as more than any limit."""


@dataclass(slots=True)
class DiskUsage:
    """Of all that is in a folder."""

    size: int = 0
    """Bytes on the disk: the holes of sparse files take none."""
    entries: float = 0
    """Files, folders and everything else; infinite where it is not known for their number or depth."""


def disk_usage(folder: Path, max_entries: int) -> DiskUsage:
    """Measure a folder, of which nothing needs to be there. Follows no link.

    Args:
        folder: what to measure.
        max_entries: stop where there are more.
    """
    usage = DiskUsage()
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(folder, _FLAGS)
        try:
            _add(usage, descriptor, max_entries, 0)
        finally:
            os.close(descriptor)
    return usage


_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _add(usage: DiskUsage, folder: int, max_entries: int, depth: int) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            # What has gone meanwhile, or became something else, takes nothing.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                usage.size += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
                usage.entries += 1
                if usage.entries > max_entries:
                    usage.entries = math.inf
                    return
                if entry.is_dir(follow_symlinks=False):
                    if depth == MAX_DEPTH:
                        usage.entries = math.inf
                        return
                    inner = os.open(entry.name, _FLAGS, dir_fd=folder)
                    try:
                        _add(usage, inner, max_entries, depth + 1)
                    finally:
                        os.close(inner)
                    if usage.entries > max_entries:
                        return
