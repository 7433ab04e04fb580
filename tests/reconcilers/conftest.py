"""A Redis for the control loop's own tests."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.private_redis import PrivateRedis
from uhlp_core import store
from uhlp_core.settings import Settings
from uhlp_core.store import Store


@pytest.fixture
def redis_server() -> Iterator[PrivateRedis]:
    folder = Path(tempfile.mkdtemp(prefix="ur-", dir="/tmp"))
    server = PrivateRedis(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture
async def redis(redis_server: PrivateRedis) -> AsyncIterator[Store]:
    client = store.connect(Settings(home_dir=redis_server.path.parent, redis=redis_server.url))
    yield client
    await client.aclose()
