"""Deletes folders of files that strangers' programs made: whatever their modes, depth and links."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

_NAMED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Opens a folder that nobody may read; never what a link points to."""

_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def remove_folder(folder: Path) -> None:
    """Delete a folder with all that is in it; nothing happens if it is gone.

    Closed folders within are opened first, and however deep they lie they take no more stack or descriptors.
    No link is followed. Raises OSError, also where somebody goes on making files in it.
    """
    with contextlib.suppress(FileNotFoundError), _opened(folder) as top:
        waiting = _clear(top, top)
        while waiting:
            name = waiting.pop()
            with _opened(name, top) as inner:
                waiting += _clear(inner, top)
            os.rmdir(name, dir_fd=top)
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()


def _clear(folder: int, top: int) -> list[str]:
    """Delete what is in a folder, and move the folders among it to `top`; the names that these have there."""
    moved = []
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            with _opened(name, folder):  # a folder that is closed to its owner cannot be moved
                moved.append(secrets.token_hex(16))
            os.rename(name, moved[-1], src_dir_fd=folder, dst_dir_fd=top)
        else:
            os.unlink(name, dir_fd=folder)
    return moved


@contextlib.contextmanager
def _opened(name: str | Path, within: int | None = None) -> Iterator[int]:
    """A folder, open for reading, and to its owner whatever its mode was."""
    named = os.open(name, _NAMED, dir_fd=within)
    try:
        # What is open, not what a name stands for by now.
        itself = f"/proc/self/fd/{named}"
        os.chmod(itself, 0o700)  # noqa: PTH101 - no path
        descriptor = os.open(itself, _READ)
    finally:
        os.close(named)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
