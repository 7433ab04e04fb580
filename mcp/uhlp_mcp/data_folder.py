"""One deployment's data folder: files by path, where no path leads out of it.

Every step of a path is opened by itself and no symbolic link is followed, so that nothing that lies in the
folder, and no change of it meanwhile, can lead elsewhere. Calls block.
"""

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uhlp_core.errors import InvalidInput, NotFound, QuotaExceeded

MAX_PATH = 512
MAX_DEPTH = 16
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_FOLDER_BYTES = 1024 * 1024 * 1024
"""Of all files together."""

MAX_FILES = 10_000
"""And folders. A write counts them all, which takes some milliseconds for so many."""

MAX_NAME = 255
"""Bytes of a part of a path: what file systems take."""

_DRAFT = ".uhlp-"
"""How the name of a file begins that is being written; nothing else may begin so."""

DRAFT_SECONDS = 60.0
"""A draft that nobody wrote to for so long belongs to a process that was killed; it is removed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies in a folder."""

    name: str
    is_folder: bool
    size: int
    """Bytes; 0 for a folder."""


class DataFolder:
    """Reads and writes the files of one deployment; made at the first write."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, offset: int, length: int) -> tuple[bytes, int]:
        """Up to `length` bytes from `offset`, and the file's size. Raises InvalidInput, NotFound, OSError."""
        *folders, name = _parts(path)
        with self._folder(folders, path) as folder, _opened(name, folder, os.O_RDONLY, path) as descriptor:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise InvalidInput(f"{path} is a folder")
            return os.pread(descriptor, length, offset), found.st_size

    def write(self, path: str, data: bytes, *, append: bool) -> int:
        """Replace the file as a whole, or append; folders on the way are made. Returns its size.

        Raises InvalidInput, QuotaExceeded, OSError.
        """
        *folders, name = _parts(path)
        # Before a folder is made: else folders without files, which nothing else counts, would fill the disk.
        used, count = self._used()
        if count + len(folders) >= MAX_FILES:
            raise QuotaExceeded(
                f"{path}: there are {count} files and folders, of at most {MAX_FILES}; delete some"
            )
        with self._folder(folders, path, make=True) as folder:
            before = _size(name, folder, path)
            size = (before + len(data)) if append else len(data)
            if size > MAX_FILE_BYTES:
                raise QuotaExceeded(f"{path} would have {size} bytes; a file has at most {MAX_FILE_BYTES}")
            if used + max(size - before, 0) > MAX_FOLDER_BYTES:
                raise QuotaExceeded(
                    f"{path}: all files together would have more than {MAX_FOLDER_BYTES} bytes; delete some"
                )
            if append:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                with _opened(name, folder, flags, path) as descriptor:
                    _write_all(descriptor, data)
            else:
                self._replace(name, folder, data, path)
            return size

    def delete(self, path: str) -> bool:
        """Remove a file, or a folder that is empty; False if there is none. Raises InvalidInput, OSError."""
        *folders, name = _parts(path)
        try:
            with self._folder(folders, path) as folder:
                if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    self._used()  # which takes away what a killed process left in it
                    os.rmdir(name, dir_fd=folder)
                else:
                    os.unlink(name, dir_fd=folder)
        except (FileNotFoundError, NotFound):
            return False
        except OSError as error:
            raise InvalidInput(f"{path}: {error.strerror}") from None
        return True

    def entries(self, path: str) -> list[Entry]:
        """What a folder holds, by name. Raises InvalidInput, NotFound, OSError."""
        if not path and not self._root.exists():
            return []
        with self._folder(_parts(path) if path else [], path) as folder, os.scandir(folder) as entries:
            found = []
            for entry in entries:
                if entry.name.startswith(_DRAFT) or entry.is_symlink():
                    continue
                is_folder = entry.is_dir(follow_symlinks=False)
                with contextlib.suppress(FileNotFoundError):  # deleted at this moment
                    size = 0 if is_folder else entry.stat(follow_symlinks=False).st_size
                    found.append(Entry(entry.name, is_folder, size))
            return sorted(found, key=lambda entry: entry.name)

    @contextlib.contextmanager
    def _folder(self, parts: list[str], path: str, *, make: bool = False) -> Iterator[int]:
        if make:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"{path} is not there") from None
        try:
            for part in parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=folder)
                inner = _open(part, folder, os.O_RDONLY | os.O_DIRECTORY, path)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _used(self) -> tuple[int, int]:
        """Bytes of all files, and how many files and folders there are.

        Drafts that nobody writes to any more go.
        """
        used = count = 0
        long_ago = time.time() - DRAFT_SECONDS
        for _, inner, names, folder in os.fwalk(self._root) if self._root.exists() else ():
            count += len(inner) + len(names)
            for name in names:
                # One that is being written by somebody else goes as it is done.
                with contextlib.suppress(FileNotFoundError):
                    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    if name.startswith(_DRAFT) and found.st_mtime < long_ago:
                        os.unlink(name, dir_fd=folder)
                    else:
                        used += found.st_size
        return used, count

    def _replace(self, name: str, folder: int, data: bytes, path: str) -> None:
        draft = f"{_DRAFT}{secrets.token_hex(8)}"
        try:
            with _opened(draft, folder, os.O_WRONLY | os.O_CREAT | os.O_EXCL, path) as descriptor:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        except IsADirectoryError:
            raise InvalidInput(f"{path} is a folder") from None
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=folder)


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if len(path.encode(errors="surrogateescape")) > MAX_PATH or len(parts) > MAX_DEPTH:
        raise InvalidInput(f"a path has at most {MAX_PATH} bytes and {MAX_DEPTH} parts")
    for part in parts:
        if len(part.encode(errors="surrogateescape")) > MAX_NAME:
            raise InvalidInput(f"a part of a path has at most {MAX_NAME} bytes: {part[:50]!r}… has more")
        if part in ("", ".", "..") or not part.isprintable() or part.startswith(_DRAFT):
            raise InvalidInput(
                f"{path[:100]!r} is not a path in the data folder; write it like reports/2026.json, without "
                "a slash at its beginning or end"
            )
    return parts


def _size(name: str, folder: int, path: str) -> int:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInput(f"{path} is there already and is no file")
    return found.st_size


@contextlib.contextmanager
def _opened(name: str, folder: int, flags: int, path: str) -> Iterator[int]:
    # Without waiting: what lies there could be a pipe that nobody writes to.
    descriptor = _open(name, folder, flags | os.O_NONBLOCK, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(name: str, folder: int, flags: int, path: str) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    except FileNotFoundError:
        raise NotFound(f"{path} is not there") from None
    except NotADirectoryError:
        raise InvalidInput(f"{path}: {name} is no folder") from None
    except IsADirectoryError:
        raise InvalidInput(f"{path} is a folder") from None
    except OSError as error:
        # ELOOP: a symbolic link, which this module never makes.
        raise InvalidInput(f"{path}: {error.strerror}") from None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
