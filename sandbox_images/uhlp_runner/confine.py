"""Shut the runner in before it opens for work, as far as this kernel and this user allow.

Every measure is optional, and none is taken for granted: what is in force and what is missing is reported
in the log and by `GET /readyz`. Without all of them this contains accidents; it never is a boundary that
hostile code could not cross, since the kernel is shared.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from . import landlock, namespaces
from .config import Config

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_GET_NO_NEW_PRIVS = 39

SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/proc")
"""What programs and libraries need to read."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

OWN_PROCESS_COUNT = "own process count"
"""A user namespace counts its processes by itself, whatever else the same user runs."""

_OWN_SPACES = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWUTS

OWN_MOUNTS = "own mounts, network, IPC"
OWN_USERS = "own users, mounts, network, IPC"

HANDLERS_WRITE = "handlers write to their /tmp only"
"""And to what the operator mounted for them; never into the instance's folder, on the host's disk."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Protection:
    """What holds for a sandbox and what does not, said honestly."""

    in_force: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def take(self, measure: str, act: Callable[[], None]) -> bool:
        """Try one measure and note how it went."""
        try:
            act()
        except OSError as error:
            self.missing.append(f"{measure}: {error.strerror or error}")
            return False
        self.in_force.append(measure)
        return True


def shut_in(config: Config, *, own_processes: bool = False) -> Protection:
    """Give up all that an instance does not need; from then on this process is the app's own user.

    With `own_processes`, what it starts next is the first process of a space of its own, with which all in
    it end.
    """
    isolation = config.isolation
    if isolation.container:
        return _look_around(config)
    protection = Protection()
    is_root = os.geteuid() == 0
    uid = isolation.uid if is_root and isolation.uid is not None else os.geteuid()
    gid = isolation.gid if is_root and isolation.gid is not None else os.getegid()
    os.umask(0o022)  # Mount points are made before this process changes its user, who must pass them.
    spaces = _OWN_SPACES | (0 if isolation.network else namespaces.CLONE_NEWNET)
    spaces |= namespaces.CLONE_NEWPID if own_processes else 0
    if is_root:
        has_spaces = protection.take(OWN_MOUNTS, lambda: namespaces.unshare(spaces))
    else:
        has_spaces = protection.take(OWN_USERS, lambda: _own_users(uid, gid, spaces))
        if has_spaces:
            protection.in_force.append(OWN_PROCESS_COUNT)
    has_tmp = has_spaces and protection.take("private /tmp, home hidden", lambda: _hide(config))
    if has_spaces:
        protection.take("other users' processes hidden", namespaces.own_proc)
    tmp = "/tmp" if has_tmp else f"{config.dir}/tmp"  # noqa: S108
    if is_root and uid != 0:
        protection.take("user of its own", lambda: _become(uid, gid))
        protection.take(OWN_PROCESS_COUNT, lambda: _own_users(uid, gid, 0))
    elif is_root:
        protection.missing.append("user of its own: none was given, so handlers run as root")
    protection.take("no new user namespaces", namespaces.forbid_more)
    protection.take("no capabilities", namespaces.drop_capabilities)
    protection.take("no new privileges", namespaces.forbid_new_privileges)
    os.umask(0o077)
    os.makedirs(tmp, mode=0o700, exist_ok=True)  # noqa: PTH103
    _set_environment(tmp)
    _confine_files(config, tmp, protection)
    if not has_tmp:
        protection.missing.append("bounded /tmp: what handlers put there lies on the host's disk")
    protection.missing.append("memory and CPU of the instance as a whole: limits are per process (no cgroup)")
    protection.missing.append("a kernel of its own: system calls are not filtered")
    return protection


def _look_around(config: Config) -> Protection:
    """Inside a container: note what its engine has put in force, as seen from here, and add Landlock."""
    protection = Protection()
    with open("/proc/self/status") as file:  # noqa: PTH123
        status = dict(line.rstrip().split(":\t", 1) for line in file)
    measures = {
        "not root": os.getuid() != 0,
        "no network": _interfaces() <= {"lo"},
        "read-only root": _has_read_only_root(),
        "private /tmp": os.path.ismount("/tmp"),  # noqa: S108
        "no capabilities": int(status["CapBnd"], 16) == 0,
        "no new privileges": _libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1,
        # gVisor does not tell: there the host's kernel is behind another, which is more than a filter.
        "system calls filtered": status.get("Seccomp") == "2",
    }
    for measure, holds in measures.items():
        (protection.in_force if holds else protection.missing).append(measure)
    os.umask(0o077)
    _set_environment("/tmp")  # noqa: S108
    _confine_files(config, "/tmp", protection)  # noqa: S108
    return protection


def _has_read_only_root() -> bool:
    """By the list of mounts: gVisor does not tell it in statvfs."""
    with open("/proc/self/mounts") as file:  # noqa: PTH123
        mounts = [line.split(" ") for line in file]
    return any(fields[1] == "/" and "ro" in fields[3].split(",") for fields in mounts)


def _interfaces() -> set[str]:
    """The network's devices; gVisor has no /sys/class/net."""
    with open("/proc/net/dev") as file:  # noqa: PTH123
        return {line.partition(":")[0].strip() for line in file if ":" in line}


def _set_environment(tmp: str) -> None:
    os.environ.clear()
    os.environ.update({"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": tmp, "TMPDIR": tmp})


def scope() -> None:
    """In a child that runs handlers: out of reach for it are the runner and the requests beside it."""
    landlock.shield_others(landlock.abi())


def scope_handlers(writable: Sequence[str]) -> None:
    """As `scope`; besides, it changes no file but below `writable`.

    The instance's folder is the runner's alone: nothing else bounds what is put there on the host's disk.
    """
    scope()
    if version := landlock.abi():
        landlock.keep_writing_to(writable, version)


def writable(config: Config) -> list[str]:
    """What handlers may change, once this process has shut itself in."""
    return [
        os.environ["TMPDIR"],
        *DEVICES,
        *(path for path, may_change in config.isolation.mounts if may_change),
    ]


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, `parent`, ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the parent of whatever below it loses its own."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _own_users(uid: int, gid: int, more: int) -> None:
    namespaces.unshare(namespaces.CLONE_NEWUSER | more)
    namespaces.map_own_user(uid, gid)


def _become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _needed(config: Config) -> list[str]:
    """What an instance reads beyond the system's folders."""
    runner = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    node = [os.path.dirname(config.node)] if config.node else []  # noqa: PTH120
    return [config.trees, sys.base_prefix, runner, *node, *config.environment, *config.templating]


def _hide(config: Config) -> None:
    namespaces.detach_mounts()
    needed = _needed(config)
    closed = [folder for path in [*needed, config.dir] if (folder := namespaces.closed_ancestor(path))]
    # The instance's own folder is closed to others, and is meant to be: it is this user's.
    masked = [folder for folder in closed if folder != config.dir]
    namespaces.hide([*masked, *config.isolation.hidden], needed, [config.dir], config.isolation.tmp_bytes)


def _confine_files(config: Config, tmp: str, protection: Protection) -> None:
    version = landlock.abi()
    if not version:
        protection.missing.append("Landlock: this kernel has none, so files are guarded by permissions only")
        protection.missing.append(f"{HANDLERS_WRITE}: they can fill the host's disk")
        return
    allowed = [(path, landlock.READ) for path in (*SYSTEM_FOLDERS, *_needed(config))]
    allowed += [(path, landlock.READ_FILE | landlock.WRITE_FILE) for path in DEVICES]
    allowed += [(path, landlock.writing(version)) for path in (tmp, config.dir)]
    allowed += [
        (path, landlock.writing(version) if may_change else landlock.READ)
        for path, may_change in config.isolation.mounts
    ]
    network = config.isolation.network
    if network:
        # On many systems a link to where a service keeps it, out of /etc.
        allowed.append((os.path.realpath("/etc/resolv.conf"), landlock.READ))
    if protection.take("Landlock: files", lambda: landlock.restrict(allowed, version, tcp=network)):
        if os.path.realpath(config.dir).startswith(f"{tmp}/"):
            # Landlock allows a folder whole; what lies in it cannot be taken out again.
            protection.missing.append(f"{HANDLERS_WRITE}: the platform's home is in {tmp}; move it elsewhere")
        else:
            protection.in_force.append(HANDLERS_WRITE)
        guards_tcp = version >= 4 and not network
        (protection.in_force if guards_tcp else protection.missing).append("Landlock: TCP")
        (protection.in_force if version >= 6 else protection.missing).append("Landlock: signals")
