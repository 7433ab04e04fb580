"""A process that checks values and finds patterns: one JSON line in, one out, until its input ends.

Regular expressions and schemas come from apps and can be made to take for ever, inside one call into C that
nothing in the same process can interrupt. The kernel ends this process instead, when its time is over.
"""

import re
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import orjson

from uhlp_mcp.llm.output import check
from uhlp_mcp.tools import compiled, violations
from uhlp_state.schema_source import schema_mistakes

JOB_SECONDS = 2.0
"""For one job. The largest answer against an ordinary schema takes a tenth of it."""

MAX_MEMORY_BYTES = 1024 * 1024 * 1024
"""Of address space; a job needs a small part, an exploding pattern or schema all there is."""


def find_groups(pattern: str, text: str) -> dict[str, str] | None:
    """The groups of the first match, by name and by number; None if there is no match."""
    match = re.search(pattern, text)
    if match is None:
        return None
    groups = {
        str(index): value for index, value in enumerate((match[0], *match.groups()))
    } | match.groupdict()
    return {name: value or "" for name, value in groups.items()}


def conformity(value: Any, schema: Any) -> str:
    """How a value breaks a schema, as `uhlp_mcp.tools.violations` says it."""
    return violations(compiled(schema), value)


def schema_errors(schema: Any) -> list[str]:
    """What is wrong with a JSON Schema itself."""
    return [f"{message}; {remedy}" for _, _, message, remedy in schema_mistakes(schema)]


JOBS: dict[str, Callable[..., Any]] = {
    "check": check,
    "conformity": conformity,
    "find_groups": find_groups,
    "schema_errors": schema_errors,
}


def main() -> None:
    """Serve until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the daemon to decide on.
    for line in sys.stdin.buffer:
        job: dict[str, Any] = orjson.loads(line)
        signal.setitimer(signal.ITIMER_REAL, JOB_SECONDS)
        result = JOBS[job["job"]](**job["with"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.buffer.write(orjson.dumps(result) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
