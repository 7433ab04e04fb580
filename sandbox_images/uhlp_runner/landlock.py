"""Landlock, the kernel's unprivileged sandbox: which files, and whether TCP, signals and abstract sockets.

The three system calls by number (the C library has no names for them), and no policy of our own.
"""

import ctypes
import os
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""The rights that make sense for something that is not a folder."""

READ = EXECUTE | READ_FILE | READ_DIR
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """The version this kernel has; 0 if it has none."""
    version: int = _libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    return max(version, 0)


def all_rights(version: int) -> int:
    """Every right on files that this version knows."""
    return _ALL_BY_ABI[max(known for known in _ALL_BY_ABI if known <= version)]


def writing(version: int) -> int:
    """Every right but making device nodes."""
    return all_rights(version) & ~(_MAKE_CHAR | _MAKE_BLOCK)


def restrict(allowed: Iterable[tuple[str, int]], version: int, *, tcp: bool = False) -> None:
    """Confine this thread, and all it starts, to the paths of `allowed` with their rights; for good.

    Where the version has them, TCP (unless `tcp`), signals and abstract sockets to the outside are denied as
    well. A path that does not exist is left out. Raises OSError.
    """
    handled = all_rights(version)
    attr = _RulesetAttr(handled, 3 if version >= 4 and not tcp else 0, 3 if version >= 6 else 0)
    ruleset = _ruleset(attr, version)
    try:
        for path, rights in allowed:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except (FileNotFoundError, PermissionError):
                continue
            try:
                if not os.path.isdir(path):  # noqa: PTH112
                    rights &= FILE_RIGHTS
                rule = _PathBeneathAttr(rights & handled, descriptor)
                _check(_libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0), path)
            finally:
                os.close(descriptor)
        _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def shield_others(version: int) -> None:
    """Put this process in a domain of its own: it can signal and trace only what it starts itself."""
    if version < 6:
        return
    ruleset = _ruleset(_RulesetAttr(0, 0, 3), version)
    try:
        _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _ruleset(attr: _RulesetAttr, version: int) -> int:
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    descriptor: int = _libc.syscall(_CREATE_RULESET, ctypes.byref(attr), size, 0)
    _check(descriptor, "landlock_create_ruleset")
    return descriptor


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
