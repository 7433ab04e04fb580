"""Which revision is served: asked once after each wake-up, and never believed for long without one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from support.private_redis import PrivateRedis
from uhlp_core import keys, store
from uhlp_core.errors import Unavailable
from uhlp_core.settings import Settings
from uhlp_mcp import served
from uhlp_mcp.served import Served
from uhlp_state.model import AppDefinition, SecurityConfig
from uhlp_state.snapshot import AppSnapshot


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Any]:
    server = PrivateRedis(tmp_path)
    server.start()
    client = store.connect(Settings(home_dir=tmp_path / "home", redis=server.url))
    yield client
    await client.aclose()
    server.kill()


async def publish(redis: Any, commit: str, deployment: str = "alpha") -> None:
    definition = AppDefinition.model_validate({"appId": deployment})
    snapshot = AppSnapshot(deployment, commit * 40, "d" * 40, definition, (), SecurityConfig())
    await redis.set(keys.routes(deployment), orjson.dumps({"snapshot": snapshot.to_json()}))


async def reads(redis: Any) -> int:
    found = await redis.info("commandstats")
    return int(found.get("cmdstat_get", {}).get("calls", 0))


async def test_redis_is_asked_once_until_a_wake_up(redis: Any) -> None:
    revisions = Served(redis)
    await publish(redis, "a")
    for _ in range(3):
        assert (await revisions.snapshot("alpha")).commit == "a" * 40
    assert await reads(redis) == 1
    await publish(redis, "b")
    revisions.doubt("beta")
    assert (await revisions.snapshot("alpha")).commit == "a" * 40
    revisions.doubt("alpha")
    assert (await revisions.snapshot("alpha")).commit == "b" * 40
    await publish(redis, "c")
    revisions.doubt(None)
    assert (await revisions.snapshot("alpha")).commit == "c" * 40


async def test_a_lost_wake_up_costs_a_moment(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FRESH_SECONDS", 0.0)
    revisions = Served(redis)
    await publish(redis, "a")
    first = await revisions.snapshot("alpha")
    assert await revisions.snapshot("alpha") is first, "what has not changed is not parsed again"
    await publish(redis, "b")
    assert (await revisions.snapshot("alpha")).commit == "b" * 40


async def test_a_wake_up_while_redis_answers_is_not_lost(redis: Any) -> None:
    class Slow:
        async def get(self, key: str) -> Any:
            answer = await redis.get(key)
            await publish(redis, "b")
            revisions.doubt("alpha")
            return answer

    revisions = Served(Slow())
    await publish(redis, "a")
    assert (await revisions.snapshot("alpha")).commit == "a" * 40
    assert (await revisions.snapshot("alpha")).commit == "b" * 40


async def test_what_is_served_no_more_is_forgotten(redis: Any) -> None:
    revisions = Served(redis)
    await publish(redis, "a")
    await revisions.snapshot("alpha")
    await redis.delete(keys.routes("alpha"))
    revisions.doubt("alpha")
    with pytest.raises(Unavailable, match="no revision of alpha is served yet"):
        await revisions.snapshot("alpha")
