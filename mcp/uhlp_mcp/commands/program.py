"""The program's file: opened once and checked as it is open, so that nobody can exchange it afterwards."""

import os
import stat
from pathlib import Path

from uhlp_core.errors import UhlpError


class ProgramRefused(UhlpError):
    """The program must not, or cannot, be run; the text says why."""

    code = "COMMAND_REFUSED"


def open_program(path: str) -> int:
    """An open descriptor of an executable that only root and we can change. Raises ProgramRefused."""
    folder, reached = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), Path("/")
    try:
        *folders, name = Path(path).parts[1:]
        for part in folders:
            # One step at a time: on none of them may a link lead elsewhere.
            inner = _open(part, folder, os.O_DIRECTORY, path)
            os.close(folder)
            folder, reached = inner, reached / part
            _check_owner(os.fstat(folder), reached, path)
        program = _open(name, folder, 0, path)
    finally:
        os.close(folder)
    found = os.fstat(program)
    try:
        _check_owner(found, Path(path), path)
        if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o001:
            raise ProgramRefused(f"{path} is not a program that everybody may run")
        if found.st_mode & (stat.S_ISUID | stat.S_ISGID):
            raise ProgramRefused(f"{path} would change its user")
    except ProgramRefused:
        os.close(program)
        raise
    return program


def _open(name: str, folder: int, flags: int, path: str) -> int:
    flags |= os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        opened = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        raise ProgramRefused(f"{path} is not there; install it on this machine") from None
    except NotADirectoryError:
        raise ProgramRefused(f"{path}: {name} is a symbolic link, or no folder; name the real path") from None
    except OSError as error:
        raise ProgramRefused(f"{path}: {error.strerror}") from None
    if stat.S_ISLNK(os.fstat(opened).st_mode):
        os.close(opened)
        raise ProgramRefused(f"{path} is a symbolic link; name the file that it leads to")
    return opened


def _check_owner(found: os.stat_result, reached: Path, path: str) -> None:
    # A daemon without root's rights trusts its own user, as whom it runs the program anyway.
    if found.st_uid not in (0, os.geteuid()):
        raise ProgramRefused(
            f"{path} could be exchanged: {reached} belongs to user {found.st_uid}; it must belong to root, "
            "or to the user that the platform runs as"
        )
    if found.st_mode & 0o022:
        raise ProgramRefused(
            f"{path} could be exchanged: {reached} is writable by its group or by others; "
            f"chmod go-w {reached}"
        )
