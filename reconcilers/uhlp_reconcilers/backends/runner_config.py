"""What a runner is told at its start, as docs/architecture.md lists it ("The runner's doors")."""

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from .protocol import InstanceSpec

CPU_SPARE_SECONDS = 5
"""Of CPU time, beyond what an instance's cores can do within a request's timeout.

Without it an endless loop would meet both limits at the same moment, and chance would say which of the two
its author is told of: Node starts threads of its own, and a busy runner stops a request a little late.
So only a request that escaped its timeout meets this one.
"""


def runner_config(
    spec: InstanceSpec,
    *,
    trees: PurePath,
    folder: PurePath,
    libraries: Sequence[str],
    node: str,
    templating: Sequence[str],
    isolation: dict[str, Any],
) -> dict[str, Any]:
    """The document; `trees` and `folder` are where the runner sees them, `libraries` where its own lie.

    `templating` are the folders of `recipe.TEMPLATING`'s packages as the runner sees them. `node` is the path
    of Node.js, or a name to look for; not looked at unless the language is JavaScript.
    """
    limits = spec.limits
    return {
        "app": spec.app,
        "deployment": spec.deployment,
        "pool": spec.pool,
        "instance": spec.instance,
        "mode": spec.mode,
        "language": spec.language.value,
        "node": node,
        "concurrency": spec.concurrency,
        "trees": str(trees),
        "dir": str(folder),
        "environment": [str(path) for path in spec.env_paths],
        "libraries": list(libraries),
        "templating": list(templating),
        "limits": {
            "memoryBytes": limits.memory_bytes,
            "cpuSeconds": math.ceil(spec.timeout_seconds * max(1.0, limits.cpu_cores)) + CPU_SPARE_SECONDS,
            "timeoutMs": math.ceil(spec.timeout_seconds * 1000),
            "maxProcesses": limits.max_processes,
            "maxOutputBytes": limits.max_output_bytes,
            "maxOpenFiles": limits.max_open_files,
        },
        "isolation": isolation,
    }
