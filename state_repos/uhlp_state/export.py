"""Trees of Git as read-only folders: complete, or not there.

A tree is written to a temporary folder beside its place and renamed: the name alone says that it is whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from uhlp_core.errors import InvalidInput
from uhlp_state.git_objects import open_objects
from uhlp_state.git_tree import GitTree

TEMPORARY_PREFIX = ".exporting-"
FILE_MODE = 0o444
EXECUTABLE_MODE = 0o555
FOLDER_MODE = 0o555


def export_tree(repo: Path, tree: str, target: Path) -> bool:
    """Write the files of a tree to `target`, whose last part is the tree's id; False if it is there.

    Several exporters of one tree may run at once: one of them wins, all find the folder complete.

    Raises:
        InvalidInput: the tree holds what is not a regular file, or a path that leads out of it.
        NotFound: an object is missing.
        OSError: the folder cannot be written.
    """
    if target.is_dir():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    building = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent)
    try:
        _write(GitTree(open_objects(repo), tree), building)
        os.chmod(building, FOLDER_MODE)  # noqa: PTH101 (hot)
        Path(building).rename(target)
    except BaseException as error:
        remove_tree(Path(building))
        if isinstance(error, OSError) and target.is_dir():
            return False
        raise
    return True


def _write(source: GitTree, root: str) -> None:
    folders: dict[str, None] = {}
    for entry in source.entries():
        parts = entry.path.split("/")
        if not stat.S_ISREG(entry.mode) or any(part in ("", ".", "..", ".git") for part in parts):
            raise InvalidInput(f"{entry.path!r} cannot be exported: only regular files inside the tree can")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder not in folders:
                folders[folder] = None
                os.mkdir(f"{root}/{folder}", 0o700)  # noqa: PTH102 (hot)
        mode = EXECUTABLE_MODE if entry.mode & stat.S_IXUSR else FILE_MODE
        # O_EXCL: two entries that the file system takes for one name would overwrite each other.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(f"{root}/{entry.path}", flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(source.read(entry))
            os.fchmod(descriptor, mode)
    for folder in reversed(folders):
        os.chmod(f"{root}/{folder}", FOLDER_MODE)  # noqa: PTH101 (hot)


def remove_tree(folder: Path) -> None:
    """Delete an exported tree, read-only as it is; nothing happens if it is gone.

    It is renamed first, so that no reader ever takes what is left of it for the whole.
    """
    going = folder
    if not folder.name.startswith(TEMPORARY_PREFIX):
        going = folder.parent / f"{TEMPORARY_PREFIX}{folder.name}-{time.monotonic_ns()}"
        try:
            folder.rename(going)
        except FileNotFoundError:
            return
    for path, folders, _ in os.walk(going):
        os.chmod(path, 0o700)  # noqa: PTH101
        for name in folders:
            below = os.path.join(path, name)  # noqa: PTH118
            if not os.path.islink(below):  # noqa: PTH114 - a link's mode is that of what it points to
                os.chmod(below, 0o700)  # noqa: PTH101
    shutil.rmtree(going, ignore_errors=True)


def sweep(trees: Path, older_than_seconds: float) -> int:
    """Remove what exporters that were killed have left under `<home>/trees`; tells how many folders."""
    limit = time.time() - older_than_seconds
    removed = 0
    for path in trees.glob(f"*/{TEMPORARY_PREFIX}*"):
        # Gone in between: its exporter is alive and has finished.
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < limit:
                remove_tree(path)
                removed += 1
    return removed
