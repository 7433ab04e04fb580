"""One Redis for all tests of language models, emptied before each; a fake provider; the tool between."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from support.fake_llm import FakeLlm
from support.leaks import traces, traces_in_redis
from support.llm_desk import KEY, Desk
from support.private_redis import PrivateRedis
from uhlp_core import store
from uhlp_core.settings import Settings


@pytest.fixture(scope="session")
def llm_redis() -> Iterator[PrivateRedis]:
    folder = Path(tempfile.mkdtemp(prefix="llm-"))
    server = PrivateRedis(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def _sdks() -> None:
    """Loading them takes a second, which counts in no test's time."""
    for module in ("openai_chat", "anthropic_messages"):
        import_module(f"uhlp_mcp.llm.{module}")


@pytest.fixture
async def desk(folder: Path, llm_redis: PrivateRedis) -> AsyncIterator[Desk]:
    settings = Settings(home_dir=folder / "home", redis=llm_redis.url, private_addresses=True)
    settings.home.create()
    redis = store.connect(settings)
    await redis.flushall()
    desk = Desk(settings, redis)
    desk.open()
    try:
        yield desk
    finally:
        await desk.tools.close()
        await desk.checker.close()
        leaked = traces([folder], [KEY.encode()]) + await traces_in_redis(redis, [KEY.encode()])
        await redis.aclose()
        assert leaked == [], "secrets were written down"


@pytest.fixture
async def fake() -> AsyncIterator[FakeLlm]:
    async with FakeLlm().serving() as server:
        yield server
