"""What the gateway tells of the load of its pools: soon, exactly, and only while somebody wants to know."""

import asyncio
from typing import Any

import orjson

from gateway.far_end import Answer, Sandbox, generic
from gateway.stage import Stage, route
from support.waiting import eventually
from uhlp_core import keys, wake
from uhlp_core.store import Store
from uhlp_state.documents import LoadDoc, PoolLoad

ELASTIC = {"maxInstances": 2, "maxQueue": 2}


async def told(redis: Store) -> PoolLoad | None:
    """The gateway's last word about the pool of the deployment on stage."""
    documents = await redis.hvals(keys.load("demo"))
    return LoadDoc.from_json(orjson.loads(documents[0])).pools["python"] if documents else None


async def test_the_load_is_told_as_a_queue_forms_and_once_more_when_it_is_over(
    stage: Stage, sandbox: Sandbox
) -> None:
    release = asyncio.Event()

    async def script(request: dict[str, Any]) -> Answer:
        await release.wait()
        return generic({})

    sandbox.script = script
    await stage.publish([route("/")], sandbox.lanes, pool=ELASTIC)
    listening = wake.listen(stage.redis, "demand")
    assert await anext(listening) == ("demand", None)
    first = asyncio.create_task(stage.ask("GET", "/"))
    await eventually(lambda: sandbox.requests, "the only lane is taken")
    others = [asyncio.create_task(stage.ask("GET", "/")) for _ in range(2)]

    async def waiting(number: int) -> bool:
        load = await told(stage.redis)
        return load is not None and load.waiting == number

    await eventually(lambda: waiting(2), "the queue is told")
    load = await told(stage.redis)
    assert load is not None
    assert (load.used, load.active, load.rejected) == (True, 1.0, 0)
    assert await anext(listening) == ("demand", "demo")
    assert 0 < await stage.redis.ttl(keys.load("demo")) <= 10

    assert (await stage.ask("GET", "/")).json()["code"] == "POOL_BUSY"

    async def rejected() -> bool:
        load = await told(stage.redis)
        return load is not None and load.rejected == 1

    await eventually(rejected, "the refusal is told")
    release.set()
    assert {(await one).status for one in (first, *others)} == {200}
    seen: list[PoolLoad] = []

    async def over() -> bool:
        load = await told(stage.redis)
        if load is not None and load not in seen:
            seen.append(load)
        return load == PoolLoad(False, 0.0, 0, 0, 0.0, 0.0, 0)

    await eventually(over, "the end is told")
    waits = [load for load in seen if load.waits]
    assert sum(load.waits for load in waits) == 2
    assert all(0 < load.average_wait <= load.longest_wait < 10 for load in waits)
    await listening.aclose()


async def test_a_pool_of_a_fixed_size_is_not_told_of(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    await stage.publish([route("/")], sandbox.lanes, deployment="other", pool=ELASTIC)
    assert (await stage.ask("GET", "/")).status == 200
    assert (await stage.ask("GET", "/", host="other.localhost")).status == 200
    await eventually(lambda: stage.redis.exists(keys.load("other")), "the other's load is told")
    assert not await stage.redis.exists(keys.load("demo"))


async def test_the_load_is_told_again_after_redis_was_away(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes, pool=ELASTIC)
    stage.redis_server.kill()
    assert (await stage.ask("GET", "/")).status == 200
    stage.redis_server.start()
    await eventually(stage.redis_server.path.exists, "Redis is back")

    async def used() -> bool:
        assert (await stage.ask("GET", "/")).status == 200
        load = await told(stage.redis)
        return load is not None and load.used

    await eventually(used, "the load is told")
