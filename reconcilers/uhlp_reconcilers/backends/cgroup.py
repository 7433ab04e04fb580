"""What a container uses, as the kernel accounts for it: of its control group, version 2 or 1.

A sum over processes would count memory that they share once for each, and forget what ended processes used.
Files of the kernel: they are read without waiting for any disk.
"""

from collections.abc import Iterable
from pathlib import Path

from .protocol import InstanceStats

ROOT = Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60
"""Version 1 says "no limit" by a number beyond any memory."""

_NANO = 1_000_000_000


def usage(pid: int) -> InstanceStats | None:
    """What the group of this process uses now; None if it is gone, or this machine does not show it."""
    try:
        groups = _groups((Path("/proc") / str(pid) / "cgroup").read_text().splitlines())
        return _version_2(groups[""]) if "memory" not in groups else _version_1(groups)
    except (OSError, KeyError, ValueError):
        return None


def _groups(lines: Iterable[str]) -> dict[str, str]:
    """The group's path by controller; version 2 has one path, under the empty name."""
    found = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path.removeprefix("/")))
    return found


def _version_2(path: str) -> InstanceStats:
    group = ROOT / path
    return InstanceStats(
        memory_bytes=_number(group / "memory.current") - _field(group / "memory.stat", "inactive_file"),
        memory_limit_bytes=_limit(group / "memory.max"),
        cpu_seconds=_field(group / "cpu.stat", "usage_usec") / 1_000_000,
        processes=_number(group / "pids.current"),
    )


def _version_1(paths: dict[str, str]) -> InstanceStats:
    memory = ROOT / "memory" / paths["memory"]
    cached = _field(memory / "memory.stat", "total_inactive_file")
    return InstanceStats(
        memory_bytes=_number(memory / "memory.usage_in_bytes") - cached,
        memory_limit_bytes=_limit(memory / "memory.limit_in_bytes"),
        cpu_seconds=_number(ROOT / "cpuacct" / paths["cpuacct"] / "cpuacct.usage") / _NANO,
        processes=_number(ROOT / "pids" / paths["pids"] / "pids.current"),
    )


def _number(file: Path) -> int:
    return int(file.read_text())


def _limit(file: Path) -> int | None:
    text = file.read_text().strip()
    return None if text == "max" or int(text) > NO_LIMIT else int(text)


def _field(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    raise KeyError(name)
