"""The order in which a runner starts: confinement, limits, doors. `__main__` has read the configuration."""

import asyncio
import json
import os
import resource
import sys

from . import confine, leftovers
from .config import Config
from .jobs import KEPT_TREES, Jobs
from .languages import Language
from .limits import lower
from .nodes import NODE_THREADS, SPARES, Node
from .oom import OomKills
from .output import Log
from .prompts import Prompts
from .server import Server
from .workers import Workers
from .zygotes import Python

OWN_PROCESSES = KEPT_TREES + 5
"""The main process, its zygotes, the renderer, and what comes and goes while a revision is prepared."""

OWN_NODES = KEPT_TREES * SPARES + 2
"""The processes of JavaScript that wait for a request, and what comes and goes, likewise."""

OWN_OPEN_FILES = 256
"""The main process's sockets and pipes, beyond eight for each request that runs."""


def main(config: Config) -> None:
    """Run an instance until it is drained."""
    # From here on nothing is imported but handlers' code, which must leave no bytecode in its tree.
    sys.dont_write_bytecode = True
    os.chdir("/")
    kills = OomKills()
    protection = confine.shut_in(config)
    confine.adopt_orphans()
    own = OWN_PROCESSES + config.concurrency
    if confine.OWN_PROCESS_COUNT not in protection.in_force:
        own += leftovers.tasks_of(os.getuid())
    if config.language == "javascript":
        own += (OWN_NODES + config.concurrency) * NODE_THREADS
    processes = own + config.limits["maxProcesses"]
    # More than handlers get: the runner must be able to start a process when they have used up theirs.
    lower(resource.RLIMIT_NPROC, processes + own)
    lower(resource.RLIMIT_NOFILE, OWN_OPEN_FILES + 8 * config.concurrency + config.limits["maxOpenFiles"])
    lower(resource.RLIMIT_CORE, 0)
    log = Log(1, config.identity)
    log.write("info", "runner", f"in force: {'; '.join(protection.in_force)}")
    log.write("warning", "runner", f"missing: {'; '.join(protection.missing)}")
    asyncio.run(_serve(config, log, protection, processes, kills))


def report_protection(config: Config) -> None:
    """Print what would hold for this instance, and what would be missing, as JSON."""
    protection = confine.shut_in(config)
    print(json.dumps([protection.in_force, protection.missing]))


async def _serve(
    config: Config, log: Log, protection: confine.Protection, processes: int, kills: OomKills
) -> None:
    settings = {
        "trees": config.trees,
        "environment": list(config.environment),
        "limits": {**config.limits, "processes": processes},
        "writable": confine.writable(config),
    }
    language: Language = Python(settings, log)
    if config.language == "javascript":
        language = Node(config.node, settings, log)
    engine = (
        Workers(config, language, log, kills) if config.mode == "server" else Jobs(config, language, kills)
    )
    await Server(config, log, engine, Prompts(config, log), protection).run()
