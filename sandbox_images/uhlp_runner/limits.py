"""The resource limits a handler's process puts on itself before it runs anything of the application.

Part of the interpreter mode's boot path.
"""

import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ADDRESS_SPACE_ALLOWANCE = 512 << 20
"""Bytes of address space beyond memoryBytes, for what is mapped and not held: code, shared libraries.

RLIMIT_DATA is the limit proper; RLIMIT_AS stops what it does not count, shared anonymous memory."""

CPU_GRACE_SECONDS = 1
"""Between SIGXCPU and SIGKILL."""


def apply_memory(memory_bytes: int, allowance: int = ADDRESS_SPACE_ALLOWANCE) -> None:
    """Bound this process's memory for good. Beyond it an allocation raises MemoryError."""
    lower(resource.RLIMIT_DATA, memory_bytes)
    lower(resource.RLIMIT_AS, memory_bytes + allowance)


def apply_handler(limits: "Mapping[str, int]", allowance: int = ADDRESS_SPACE_ALLOWANCE) -> None:
    """Bound a process that runs handlers: memory, processes and threads, open files."""
    apply_memory(limits["memoryBytes"], allowance)
    lower(resource.RLIMIT_NPROC, limits["processes"])
    lower(resource.RLIMIT_NOFILE, limits["maxOpenFiles"])


def apply_request(limits: "Mapping[str, int]", allowance: int = ADDRESS_SPACE_ALLOWANCE) -> None:
    """Bound a process that serves a single request: as `apply_handler`, and its CPU seconds."""
    apply_handler(limits, allowance)
    lower_cpu(limits["cpuSeconds"])


def lower_cpu(seconds: int) -> None:
    """Bound what this process may use of the CPU from now on; 0 seconds mean no bound."""
    if seconds:
        used = resource.getrusage(resource.RUSAGE_SELF)
        total = int(used.ru_utime + used.ru_stime) + seconds
        lower(resource.RLIMIT_CPU, total, total + CPU_GRACE_SECONDS)


def lower(which: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, or what of it the hard limit in force still allows."""
    ceiling = resource.getrlimit(which)[1]
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))
