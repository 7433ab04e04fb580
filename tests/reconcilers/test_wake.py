"""Wake-ups: they arrive at once, and one that is lost is noticed by counting."""

import asyncio

import pytest

from support.private_redis import PrivateRedis
from support.waiting import eventually
from uhlp_core import keys, wake
from uhlp_core.store import Store


@pytest.fixture
async def heard(redis: Store):
    """What a listener to two kinds has heard; it hears until the test ends."""
    found: list[tuple[str, str | None]] = []

    async def listen() -> None:
        async for item in wake.listen(redis, "registry", "routes"):
            found.append(item)

    task = asyncio.create_task(listen())
    await eventually(lambda: len(found) == 2, "it starts by looking at everything")
    assert found == [("registry", None), ("routes", None)]
    found.clear()
    yield found
    task.cancel()
    await asyncio.wait([task])


async def test_a_nudge_names_its_deployment(redis: Store, heard: list[tuple[str, str | None]]) -> None:
    await wake.send(redis, "routes", "hello@dark")
    await wake.send(redis, "status", "nobody-listens")
    await wake.send(redis, "registry", "hello")
    await eventually(lambda: len(heard) == 2, "both are heard")
    assert heard == [("routes", "hello@dark"), ("registry", "hello")]


async def test_a_lost_nudge_is_noticed_by_its_count(
    redis: Store, heard: list[tuple[str, str | None]]
) -> None:
    await redis.incr(keys.generation("routes"))  # As if its message had never arrived.
    await eventually(lambda: heard == [("routes", None)], "everything of that kind is looked at again")


async def test_after_redis_was_away_everything_is_looked_at(
    redis_server: PrivateRedis, redis: Store, heard: list[tuple[str, str | None]]
) -> None:
    redis_server.kill()
    redis_server.start()
    await eventually(lambda: heard[-2:] == [("registry", None), ("routes", None)], "it listens again")
    await wake.send(redis, "routes", "hello")
    await eventually(lambda: heard[-1] == ("routes", "hello"), "and hears")
