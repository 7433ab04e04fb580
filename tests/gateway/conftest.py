"""Fixtures: a stage with a running gateway, and a sandbox that answers for it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from gateway.far_end import Sandbox
from gateway.stage import Stage
from support.private_redis import PrivateRedis
from support.waiting import eventually
from uhlp_core import store
from uhlp_core.settings import Settings


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the daemons run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's holds 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="gw-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def stage(folder: Path) -> AsyncIterator[Stage]:
    server = PrivateRedis(folder)
    server.start()
    settings = Settings(home_dir=folder / "home", redis=f"unix://{server.path}")
    settings.home.create()
    stage = Stage(folder, server, settings, store.connect(settings))
    try:
        await eventually(server.path.exists, "Redis listens")
        await stage.start_gateway()
        yield stage
    finally:
        await stage.stop_gateway()
        await stage.redis.aclose()
        server.kill()


@pytest.fixture
async def sandbox(folder: Path) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(folder)
    await sandbox.start()
    yield sandbox
    await sandbox.stop()
