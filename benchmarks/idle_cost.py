"""What the daemons cost while nothing happens: processor time and memory of all of them together."""

import os
import time
from pathlib import Path

from benchmarks.measuring import Row, running_platform
from e2e.platform_under_test import answering, app_files

SECONDS = 15.0
MAX_CORE_SHARE = 0.01
MAX_BYTES = 400 * 1024 * 1024


def rows() -> list[Row]:
    with running_platform() as platform:
        for app in ("one", "two"):
            platform.create(app, app_files(app, answering(app)))
        time.sleep(2)
        assert platform.process is not None
        pids = [*platform.state["daemons"].values(), platform.process.pid]
        before = sum(_cpu_seconds(pid) for pid in pids)
        time.sleep(SECONDS)
        share = (sum(_cpu_seconds(pid) for pid in pids) - before) / SECONDS
        memory = sum(_proportional_bytes(pid) for pid in pids)
    return [
        Row(
            f"all {len(pids)} daemons idle, share of a core",
            f"{share:.2%}",
            f"{MAX_CORE_SHARE:.0%}",
            share / MAX_CORE_SHARE,
            "< 1 ×",
            share < MAX_CORE_SHARE,
        ),
        Row(
            "all daemons idle, memory (proportional set size)",
            f"{memory / 2**20:.0f} MiB",
            f"{MAX_BYTES / 2**20:.0f} MiB",
            memory / MAX_BYTES,
            "< 1 ×",
            memory < MAX_BYTES,
        ),
    ]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proportional_bytes(pid: int) -> int:
    """Resident memory with shared pages divided among their users."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no Pss of process {pid}")
