"""What a program of a `CheckPool` does: one JSON line in, one out, until its input ends.

Regular expressions and schemas come from apps and can be made to take for ever, inside one call into C that
nothing in the same process can interrupt. The kernel ends this process instead, when its time is over.
"""

import resource
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

import orjson

JOB_SECONDS = 2.0
"""For one job. The largest value against an ordinary schema takes a tenth of it."""

MAX_MEMORY_BYTES = 1024 * 1024 * 1024
"""Of address space; a job needs a small part, an exploding pattern or schema all there is."""


def serve(jobs: Mapping[str, Callable[..., Any]]) -> None:
    """Do the jobs that are asked for by name until standard input ends; what they return must be JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the daemon to decide on.
    for line in sys.stdin.buffer:
        job: dict[str, Any] = orjson.loads(line)
        signal.setitimer(signal.ITIMER_REAL, JOB_SECONDS)
        result = jobs[job["job"]](**job["with"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.buffer.write(orjson.dumps(result) + b"\n")
        sys.stdout.buffer.flush()
