"""Checks of the machine and of the installation, each with a verdict, what was found, and a remedy.

Looks only: starts nothing, creates nothing.
"""

import ctypes
import errno
import os
import platform
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from uhlp_cli.live import require_redis, running_state
from uhlp_cli.redis_server import find_binary
from uhlp_core.errors import Unavailable
from uhlp_core.settings import Settings

MIN_PYTHON = (3, 11)
MIN_GIT = (2, 31)
"""The first that reads configuration from GIT_CONFIG_COUNT, which keeps a user's own settings out of ours."""
LOW_DISK_BYTES = 1 << 30
"""Below this an export or an append-only rewrite may soon fail."""
FULL_DISK_BYTES = 100 << 20
CLOCK_TOLERANCE = 5.0
"""Seconds by which file systems and clocks may differ without harm."""
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION_FLAG = 1
_COMMAND_SECONDS = 10


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    """It works, with less than there could be."""
    FAIL = "fail"
    """The platform, or a part of it, cannot work like this."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def check_all(settings: Settings) -> list[Check]:
    """Every check, in the order in which a newcomer should mend them."""
    checks: list[Callable[[Settings], Check]] = [
        _python,
        _git,
        _redis_server,
        _namespaces,
        _landlock,
        _home,
        _disk,
        _clock,
        _redis,
        _daemons,
        lambda settings: _port(settings, "gateway", settings.bind, settings.port),
        lambda settings: _port(settings, "control", settings.control_bind, settings.effective_control_port),
        lambda settings: _port(settings, "mcp", settings.mcp_bind, settings.effective_mcp_port),
    ]
    return [check(settings) for check in checks]


def _python(settings: Settings) -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info >= MIN_PYTHON:
        return Check("python", Verdict.OK, found)
    return Check("python", Verdict.FAIL, found, f"install Python {_dotted(MIN_PYTHON)} or newer")


def _git(settings: Settings) -> Check:
    said = _output("git", "--version")
    version = re.search(r"(\d+)\.(\d+)", said or "")
    if version is None:
        return Check("git", Verdict.FAIL, "not found", f"install Git {_dotted(MIN_GIT)} or newer")
    if (int(version[1]), int(version[2])) < MIN_GIT:
        return Check("git", Verdict.FAIL, said or "", f"install Git {_dotted(MIN_GIT)} or newer")
    return Check("git", Verdict.OK, (said or "").removeprefix("git version "))


def _redis_server(settings: Settings) -> Check:
    if settings.redis:
        return Check("redis-server", Verdict.OK, "not needed: the setting `redis` names a server")
    try:
        binary = find_binary()
    except Unavailable as error:
        return Check("redis-server", Verdict.FAIL, "not found", str(error))
    return Check("redis-server", Verdict.OK, f"{binary}: {_output(str(binary), '--version') or 'no version'}")


def _namespaces(settings: Settings) -> Check:
    missing = [name for name in ("user", "pid", "net", "mnt") if not Path("/proc/self/ns", name).exists()]
    if missing:
        return Check(
            "namespaces",
            Verdict.WARN,
            f"the kernel has no {', '.join(missing)} namespaces",
            "sandboxes run with less isolation; use a kernel with namespaces, or the docker backend",
        )
    if os.geteuid() != 0 and _read_number("/proc/sys/user/max_user_namespaces") == 0:
        return Check(
            "namespaces",
            Verdict.WARN,
            "users may not create namespaces",
            "allow it with `sysctl user.max_user_namespaces=15000`, or use the docker backend",
        )
    return Check("namespaces", Verdict.OK, "user, pid, net and mnt")


def _landlock(settings: Settings) -> Check:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION_FLAG)
    if version > 0:
        return Check("landlock", Verdict.OK, f"version {version}")
    why = errno.errorcode.get(ctypes.get_errno(), "unknown")
    return Check(
        "landlock",
        Verdict.WARN,
        f"not available ({why})",
        "sandboxes run without it; a kernel from 5.13 on with `landlock` in its `lsm=` list has it",
    )


def _home(settings: Settings) -> Check:
    root = settings.home.root
    if not root.exists():
        parent = next(folder for folder in root.parents if folder.exists())
        if os.access(parent, os.W_OK):
            return Check("home", Verdict.OK, f"{root} will be created at the first start")
        return Check(
            "home", Verdict.FAIL, f"{root} cannot be created in {parent}", "choose another folder with --home"
        )
    found = root.stat()
    if found.st_uid != os.getuid():
        return Check(
            "home",
            Verdict.FAIL,
            f"{root} belongs to another user",
            "run as that user, or choose another --home",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        return Check("home", Verdict.WARN, f"others may enter {root}", f"chmod 700 {root}")
    return Check("home", Verdict.OK, f"{root}, closed to others")


def _disk(settings: Settings) -> Check:
    return disk_check("disk", settings.home.root, "pushes and Redis's file")


def disk_check(name: str, root: Path, what: str) -> Check:
    """Whether there is room where `root` is or will be; `what` fails first if there is none."""
    where = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(where).free
    found = f"{free / (1 << 30):.1f} GiB free at {where}"
    if free < FULL_DISK_BYTES:
        return Check(name, Verdict.FAIL, found, f"free some space: {what} are about to fail")
    if free < LOW_DISK_BYTES:
        return Check(name, Verdict.WARN, found, "free some space, e.g. old entries in the trash folder")
    return Check(name, Verdict.OK, found)


def _clock(settings: Settings) -> Check:
    """Whether the clock went back: ages, expiries and the order of commits rest on it."""
    now = time.time()
    written = [path.stat().st_mtime for path in settings.home.repos.glob("*.git")]
    ahead = max(written, default=now) - now
    if ahead > CLOCK_TOLERANCE:
        found = f"{ahead:.0f} s behind what was last written in {settings.home.repos}"
        return Check("clock", Verdict.WARN, found, "set the clock, and keep it set (NTP)")
    return Check("clock", Verdict.OK, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def _redis(settings: Settings) -> Check:
    try:
        require_redis(settings)
    except Unavailable as error:
        if settings.redis or running_state(settings) is not None:
            return Check("redis", Verdict.FAIL, "does not answer", str(error))
        return Check("redis", Verdict.WARN, "not running", "start the platform with `uhlp up`")
    return Check("redis", Verdict.OK, "answers")


def _daemons(settings: Settings) -> Check:
    """Whether every process that the supervisor wrote down is alive, and pushes find their door."""
    state = running_state(settings)
    if state is None:
        return Check("daemons", Verdict.WARN, "not running", "start the platform with `uhlp up`")
    dead = [name for name, pid in state["daemons"].items() if not _alive(pid)]
    if not _alive(state["pid"]):
        remedy = "start the platform again with `uhlp up`; nothing is lost"
        return Check("daemons", Verdict.FAIL, "the supervisor was killed", remedy)
    if dead:
        remedy = "the supervisor starts them again within seconds; if not, its output says why"
        return Check("daemons", Verdict.FAIL, f"not running: {', '.join(dead)}", remedy)
    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.connect(str(settings.home.receive_socket))
        except OSError as error:
            remedy = "pushes are still validated, by the hook itself; see the output of `uhlp up`"
            return Check("daemons", Verdict.WARN, f"the door for pushes is closed: {error.strerror}", remedy)
    return Check("daemons", Verdict.OK, ", ".join(state["daemons"]))


def _port(settings: Settings, name: str, host: str, port: int) -> Check:
    if port == 0:
        return Check(name, Verdict.OK, f"any free port on {host}")
    if (state := running_state(settings)) is not None:
        return Check(name, Verdict.OK, str(state[name]))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            setting = "port" if name == "gateway" else f"{name}_port"
            return Check(
                name,
                Verdict.FAIL,
                f"{host}:{port}: {os.strerror(error.errno or 0)}",
                f"stop what listens there, or choose another port (setting `{setting}`)",
            )
    return Check(name, Verdict.OK, f"{host}:{port} is free")


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _output(*command: str) -> str | None:
    """What a command prints; None if it is not there, fails, or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _read_number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
