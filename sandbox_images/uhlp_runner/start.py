"""The order in which a runner starts: confinement, limits, doors. `__main__` has read the configuration."""

import asyncio
import json
import os
import resource
import sys

from . import confine, leftovers
from .config import Config
from .jobs import KEPT_TREES, Jobs
from .limits import lower
from .output import Log
from .prompts import Prompts
from .server import Server
from .workers import Workers

OWN_PROCESSES = KEPT_TREES + 5
"""The main process, its zygotes, the renderer, and what comes and goes while a revision is prepared."""

OWN_OPEN_FILES = 256
"""The main process's sockets and pipes, beyond eight for each request that runs."""


def main(config: Config) -> None:
    """Run an instance until it is drained."""
    # From here on nothing is imported but handlers' code, which must leave no bytecode in its tree.
    sys.dont_write_bytecode = True
    os.chdir("/")
    protection = confine.shut_in(config)
    confine.adopt_orphans()
    own = OWN_PROCESSES + config.concurrency
    if confine.OWN_PROCESS_COUNT not in protection.in_force:
        own += leftovers.tasks_of(os.getuid())
    processes = own + config.limits["maxProcesses"]
    # More than handlers get: the runner must be able to start a process when they have used up theirs.
    lower(resource.RLIMIT_NPROC, processes + own)
    lower(resource.RLIMIT_NOFILE, OWN_OPEN_FILES + 8 * config.concurrency + config.limits["maxOpenFiles"])
    lower(resource.RLIMIT_CORE, 0)
    log = Log(1, config.identity)
    log.write("info", "runner", f"in force: {'; '.join(protection.in_force)}")
    log.write("warning", "runner", f"missing: {'; '.join(protection.missing)}")
    asyncio.run(_serve(config, log, protection, processes))


def report_protection(config: Config) -> None:
    """Print what would hold for this instance, and what would be missing, as JSON."""
    protection = confine.shut_in(config)
    print(json.dumps([protection.in_force, protection.missing]))


async def _serve(config: Config, log: Log, protection: confine.Protection, processes: int) -> None:
    settings = {
        "trees": config.trees,
        "environment": list(config.environment),
        "limits": {**config.limits, "processes": processes},
    }
    engine = (Workers if config.mode == "server" else Jobs)(config, settings, log)
    await Server(config, log, engine, Prompts(config, log), protection).run()
