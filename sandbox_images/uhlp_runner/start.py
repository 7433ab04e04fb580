"""The order in which a runner starts: configuration, libraries, doors, confinement, work."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from . import config as configuration


def main(arguments: Sequence[str]) -> None:
    """Run an instance until it is drained."""
    parser = argparse.ArgumentParser(prog="uhlp_runner")
    parser.add_argument("--config", required=True)
    config = configuration.load(parser.parse_args(arguments).config)
    _import_libraries(config.libraries)
    # Handlers must not leave bytecode in the trees; the runner's own imports are done by now.
    from .jobs import Jobs
    from .workers import Workers
    from .output import Log
    from .server import Server
    sys.dont_write_bytecode = True

    async def serve() -> None:
        log = Log(1, config.identity)
        engine = Workers(config, log) if config.mode == 'server' else Jobs(config, log)
        await Server(config, log, engine, ([], [])).run()

    asyncio.run(serve())


def _import_libraries(folders: Sequence[str]) -> None:
    """Import orjson from where the platform has it, without leaving that folder on the handlers' path."""
    sys.path.extend(folders)
    try:
        import orjson  # noqa: F401
    except ImportError:
        pass
    for folder in folders:
        sys.path.remove(folder)
