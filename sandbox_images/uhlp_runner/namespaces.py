"""A sandbox's own view of the machine: mounts, network, IPC, host name and users, as far as permitted.

Low-level: each function does one thing and raises OSError if the kernel says no.
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18

PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 4, 24, 8, 38
_CAPABILITY_VERSION_3 = 0x20080522

MASK_BYTES = 1 << 20
"""Size of the empty folders that cover what is hidden: they hold mount points only."""

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` name."""
    _check(_libc.unshare(flags), "unshare")


def map_own_user(uid: int, gid: int) -> None:
    """In a fresh user namespace: be the same user as outside, and the only one there is."""
    _libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # A change of user took the ownership of /proc/self away.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def forbid_more() -> None:
    """In a user namespace of our own: nobody in it may make another, and so regain capabilities."""
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def drop_capabilities() -> None:
    """Give up every capability, and the means to get one back."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def forbid_new_privileges() -> None:
    """No program started from here gains rights by its set-user-id bit or file capabilities."""
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def detach_mounts() -> None:
    """What is mounted here from now on is seen here only."""
    _mount("none", "/", None, MS_REC | MS_PRIVATE)


def hide(masked: Sequence[str], read_only: Sequence[str], writable: Sequence[str], tmp_bytes: int) -> None:
    """Cover the folders `masked`, and /tmp, with empty ones, and show below them only what is named.

    /tmp stays writable, with `tmp_bytes` of room; the other covers do not. A path in `read_only` or
    `writable` that lies below no cover is left as it is.
    """
    covers = outermost(["/tmp", *masked])  # noqa: S108 - it is being replaced by a private one
    shown = []
    for path in outermost([*read_only, *writable]):
        if any(is_below(path, cover) for cover in covers):
            shown.append((path, os.open(path, os.O_PATH | os.O_CLOEXEC)))
    # Within a shown folder another may be shown with other rights: the instance's, below the home.
    for cover in covers:
        size = tmp_bytes if cover == "/tmp" else MASK_BYTES  # noqa: S108
        mode = "1777" if cover == "/tmp" else "0755"  # noqa: S108
        _mount("tmpfs", cover, "tmpfs", MS_NOSUID | MS_NODEV, f"size={size},mode={mode}")
    for path, descriptor in shown:
        os.makedirs(path, mode=0o755, exist_ok=True)  # noqa: PTH103
        _mount(f"/proc/self/fd/{descriptor}", path, None, MS_BIND | MS_REC)
        os.close(descriptor)
        if path not in writable:
            _mount("none", path, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    for cover in covers:
        if cover != "/tmp":  # noqa: S108
            _mount("none", cover, None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def own_proc() -> None:
    """A /proc that shows other users' processes to nobody."""
    _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2")


def closed_ancestor(path: str) -> str | None:
    """The first folder on the way to `path` that other users may not pass; None if there is none."""
    for folder in [*reversed(Path(path).parents), Path(path)]:
        if not folder.stat().st_mode & 0o001:
            return str(folder)
    return None


def outermost(paths: Sequence[str]) -> list[str]:
    """The paths that lie below no other of them, each once."""
    return [
        path
        for path in dict.fromkeys(paths)
        if not any(path != other and is_below(path, other) for other in paths)
    ]


def is_below(path: str, folder: str) -> bool:
    """Whether `path` is `folder`, or within it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _check(result, f"mount {target}")


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
