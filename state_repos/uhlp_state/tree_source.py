"""Where the files of one commit come from: the protocol, and the reader of a plain folder.

Paths are POSIX and relative to the repo's root. Nothing here follows a link or trusts a name.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MODE_SYMLINK = 0o120000
"""Git's mode of a symbolic link."""
MODE_SUBMODULE = 0o160000
"""Git's mode of a submodule."""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One file of a tree."""

    path: str
    """POSIX path relative to the repo's root, e.g. `state/app_definition.yaml`."""
    mode: int
    """Git's mode: 0o100644, 0o100755, or one of those that are refused."""
    blob: str
    """Git's id of the content, in hex."""
    size: int
    """Bytes."""


class TreeSource(Protocol):
    """The files of one commit."""

    def entries(self) -> Sequence[TreeEntry]:
        """Every file, submodules and links included."""
        ...

    def read(self, entry: TreeEntry) -> bytes:
        """The content of one of `entries()`."""
        ...


class DirectorySource:
    """A work tree on disk, seen as Git would see it (without `.gitignore`): for `uhlp validate DIR`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def entries(self) -> list[TreeEntry]:
        """Every file below the root, sorted by path, without the root's own `.git`.

        Raises:
            OSError: the folder, or something in it, cannot be read.
        """
        return sorted(self._walk(), key=lambda entry: entry.path)

    def read(self, entry: TreeEntry) -> bytes:
        """The file's content as it is now.

        Raises:
            OSError: the file cannot be read.
        """
        return (self._root / entry.path).read_bytes()

    def _walk(self) -> Iterator[TreeEntry]:
        folders = [self._root]
        while folders:
            with os.scandir(folders.pop()) as found:
                for item in found:
                    path = Path(item.path)
                    if item.name == ".git" and path.parent == self._root:
                        continue
                    if item.is_dir(follow_symlinks=False):
                        folders.append(path)
                    else:
                        yield self._entry(path)

    def _entry(self, path: Path) -> TreeEntry:
        status = path.lstat()
        blob = ""
        if stat.S_ISLNK(status.st_mode):
            mode = MODE_SYMLINK
        elif stat.S_ISREG(status.st_mode):
            mode = 0o100755 if status.st_mode & stat.S_IXUSR else 0o100644
            blob = _blob_id(path, status.st_size)
        else:
            # A pipe or a device: opening it could block for ever, so it has a mode that is refused and no id.
            mode = stat.S_IFMT(status.st_mode)
        return TreeEntry(path.relative_to(self._root).as_posix(), mode, blob, status.st_size)


def _blob_id(path: Path, size: int) -> str:
    # SHA-1 is what Git names content by; it protects nothing here.
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 16):
            digest.update(chunk)
    return digest.hexdigest()
