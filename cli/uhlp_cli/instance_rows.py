"""Instances as `uhlp status` shows them: what runs since when, what it uses, and why the last one ended."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from uhlp_cli.deployments import DeploymentView

COLUMNS = (
    *("pool", "instance", "state", "backend", "age", "restarts", "cpu", "memory", "container or pid"),
    "last exit",
)
_OF_INSTANCE = (
    *("instance", "state", "backend", "container", "outdated", "pid", "restarts", "lastExit", "startedAt"),
)
_OF_USAGE = ("memoryBytes", "memoryLimitBytes", "cpuPercent", "cpuSeconds", "processes")


def document(instance: Mapping[str, Any], usage: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One instance for `--json`; null is what is not known."""
    used = usage.get(instance["instance"], {})
    started = instance.get("startedAt")
    return {
        **{name: instance.get(name) for name in _OF_INSTANCE},
        "ageSeconds": None if started is None else round(max(0.0, time.time() - started), 1),
        **{name: used.get(name) for name in _OF_USAGE},
    }


def rows(view: DeploymentView) -> Iterator[tuple[str, ...]]:
    """The instances of a deployment as lines of a table."""
    for pool, instances in view.pools().items():
        for found in instances:
            known = document(found, view.usage)
            yield (
                pool,
                known["instance"],
                known["state"] + (" (other version's image)" if known["outdated"] else ""),
                known["backend"],
                _age(known["ageSeconds"]),
                str(known["restarts"]),
                _percent(known["cpuPercent"]),
                _memory(known["memoryBytes"], known["memoryLimitBytes"]),
                known["container"] or f"pid {known['pid']}",
                known["lastExit"] or "-",
            )


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _percent(of_a_core: float | None) -> str:
    return "-" if of_a_core is None else f"{of_a_core:.1f} %"


def _memory(used: int | None, limit: int | None) -> str:
    if used is None:
        return "-"
    return f"{used >> 20} MiB" + (f" of {limit >> 20} MiB" if limit is not None else "")
