"""One installation from order to finished folder: watched, bounded, and complete or not there.

Runs in a thread. Nothing that the installing process leaves behind is believed: what is taken over holds
files and folders of that process's user only, and links that stay within.
"""

import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from uhlp_core.disk_usage import disk_usage
from uhlp_core.settings import Settings
from uhlp_state.export import EXECUTABLE_MODE, FILE_MODE, FOLDER_MODE, TEMPORARY_PREFIX, remove_tree

from .commands import CA_FILE
from .installer import (
    DETAILS,
    FOLDERS,
    MAX_SECONDS,
    SCRATCH,
    Installer,
    InstallFailed,
    InstallRefused,
    Order,
    Running,
    Work,
)
from .output import Output

MAX_BYTES = 2 << 30
MAX_FILES = 100_000
"""Of one installation, what it needs on the way included."""

MAX_DETAILS = 256 << 10
"""Bytes at the end of what was printed, or of the installer's own log, that are looked at at once."""

LOOK_SECONDS = 0.25
"""Between two looks at what was printed; each may move a line of a push's output."""

MEASURE_SECONDS = 1.0
"""Between two looks at how much there is: what is beyond the limit by then is gone again soon."""

Tell = Callable[[str], None]


class InstallStopped(Exception):
    """Nobody wants these packages any more."""


def install(
    installer: Installer, order: Order, place: Path, settings: Settings, tell: Tell, stop: threading.Event
) -> None:
    """Install into `place`, which is complete once it is there.

    Raises:
        InstallRefused: these packages cannot be had, or took too much.
        InstallFailed: something outside failed.
        InstallStopped: `stop` was set.
        BackendError: the installation could not be started.
        OSError: the folder cannot be written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Work(Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=place.parent)))
    try:
        _lay_out(work, order, settings, installer.uid)
        with work.log.open("rb") as log:  # Before it starts, so that it is this file whatever it does.
            running = installer.begin(order, work)
            try:
                _follow(running, work, log, tell, stop)
            finally:
                running.end()
        done = work.root / "done"
        done.mkdir(mode=FOLDER_MODE | stat.S_IWUSR)
        _take_over(work.box / FOLDERS[order.language], done / FOLDERS[order.language], installer.uid)
        os.sync()  # One call for thousands of files, so that its name alone says that it is whole.
        if not place.is_dir():
            done.rename(place)
    finally:
        remove_tree(work.root)


def _lay_out(work: Work, order: Order, settings: Settings, uid: int) -> None:
    work.root.chmod(0o711)
    packages = work.box / FOLDERS[order.language]
    for folder in (work.box, work.box / SCRATCH, packages):
        folder.mkdir(mode=0o700)
    for name, content in order.dependencies.files.items():
        (work.box / name).write_bytes(content)
    if settings.package_ca:
        shutil.copyfile(settings.package_ca, work.box / CA_FILE)
    work.log.touch(mode=0o600)
    if os.geteuid() == 0:
        for path in (work.log, work.box, *work.box.iterdir()):
            os.chown(path, uid, uid)


def _follow(running: Running, work: Work, log: BinaryIO, tell: Tell, stop: threading.Event) -> None:
    """Wait for its end, telling its newest line. Raises as `install` does unless it ended well."""
    output = Output()
    deadline = time.monotonic() + MAX_SECONDS
    measured = time.monotonic()
    while True:
        code = running.exit_code()
        if line := output.feed(_printed(log)):
            tell(line)
        if code is not None:
            break
        if time.monotonic() > deadline:
            raise InstallRefused(f"installing took longer than {MAX_SECONDS:.0f} s; ask for less")
        if time.monotonic() > measured + MEASURE_SECONDS:
            _measure(work.root)
            measured = time.monotonic()
        if stop.wait(LOOK_SECONDS):
            raise InstallStopped
    _measure(work.root)
    if code and output.blames_outside(_details(work.box)):
        raise InstallFailed(output.reasons())
    if code:
        raise InstallRefused(output.reasons())


def _printed(log: BinaryIO) -> bytes:
    """What was printed since the last look; only the end of it where it is more than anybody could read."""
    beyond = os.fstat(log.fileno()).st_size - log.tell() - MAX_DETAILS
    log.seek(max(0, beyond), os.SEEK_CUR)
    return log.read(MAX_DETAILS)


def _details(box: Path) -> str:
    """The end of the installer's own log; it only decides whether to try again, so it may lie."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(box / SCRATCH / DETAILS, flags), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_DETAILS))
            return file.read(MAX_DETAILS).decode(errors="replace")
    except OSError:
        return ""


def _measure(root: Path) -> None:
    """Raise InstallRefused if there is too much in the box, or in the log."""
    usage = disk_usage(root, MAX_FILES)
    if usage.entries > MAX_FILES:
        raise InstallRefused(
            f"the packages have more than {MAX_FILES} files, or too deep folders; ask for less"
        )
    if usage.size > MAX_BYTES:
        raise InstallRefused(
            f"the packages take {usage.size >> 20} MiB, more than {MAX_BYTES >> 20} MiB; ask for less"
        )


def _take_over(source: Path, target: Path, uid: int) -> None:
    """Move what was installed out of its maker's reach, as read-only files of our own."""
    if source.is_symlink() or not source.is_dir():
        raise InstallRefused("a package has replaced the folder that packages are installed into")
    for path, folders, files in os.walk(source, topdown=False):
        for name in (*folders, *files):
            _take(Path(path, name), source, uid)
    _take(source, source, uid)
    source.chmod(0o700)  # A folder must be writable to be moved.
    source.rename(target)
    target.chmod(FOLDER_MODE)


def _take(path: Path, root: Path, uid: int) -> None:
    """Take over one file, folder or link. Raises InstallRefused for what no package has."""
    status = path.lstat()
    kind = stat.S_IFMT(status.st_mode)
    own = status.st_uid == uid and (kind == stat.S_IFDIR or status.st_nlink == 1)
    inside = kind != stat.S_IFLNK or _stays_within(path, root)
    if not own or not inside or kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise InstallRefused(f"a package has put something there that is not its own: {path.name[:100]!r}")
    if os.geteuid() == 0:
        os.chown(path, 0, 0, follow_symlinks=False)
    if kind == stat.S_IFDIR:
        path.chmod(FOLDER_MODE)
    elif kind == stat.S_IFREG:
        path.chmod(EXECUTABLE_MODE if status.st_mode & stat.S_IXUSR else FILE_MODE)


def _stays_within(link: Path, root: Path) -> bool:
    """Whether a link leads to somewhere below the root, and will wherever that is moved."""
    try:
        return not link.readlink().is_absolute() and link.resolve().is_relative_to(root.resolve())
    except RuntimeError:  # It leads to itself.
        return False
