"""Tells Redis what the pools have to do, so that instances are started and stopped for it, and holds requests
for which none runs.

Only pools whose number of instances may change are told of, and only while there is traffic: once a second,
at once when a queue forms, and one last time when the traffic has ended.
"""

import asyncio
import contextlib
import logging
import math
import time

import orjson

from uhlp_core import keys, store, wake
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_gateway.lanes import Lane, Pool, PoolBusy, PoolSet
from uhlp_gateway.problems import Problem
from uhlp_gateway.table import Table, pool_of
from uhlp_gateway.tables import Tables
from uhlp_state.documents import LOAD_SECONDS, LoadDoc, PoolLoad

TELL_SECONDS = 1.0
"""How often the load of pools in use is told."""

LEAST_PAUSE = 0.05
"""Between two accounts, however often a queue forms and empties."""

HOLD_SECONDS = 15.0
"""How long a request waits for a sleeping deployment to come up."""

QUARANTINE_POLL_SECONDS = 0.25
"""How often a waiting request asks whether its revision was refused meanwhile."""

_log = logging.getLogger(__name__)


class Demand:
    """The load of this gateway's pools, as others are told of it."""

    def __init__(self, redis: Store, tables: Tables) -> None:
        self._store = redis
        self._tables = tables
        self._told_busy: set[str] = set()
        """Deployments of which Redis was last told that they are in use."""

    async def run(self) -> None:
        """Tell the load of what is in use, for ever."""
        queueing = self._tables.queueing
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(queueing.wait(), TELL_SECONDS)
            queueing.clear()
            loads = self._measure()
            if loads:
                try:
                    await self._tell(loads)
                except UNAVAILABLE as error:
                    _log.debug("Redis is away: %s", error)
                await asyncio.sleep(LEAST_PAUSE)

    async def hold(self, table: Table, pool: Pool) -> Lane:
        """Wait in the pool's queue, which is what asks for an instance, until one is there.

        Raises Problem: 503 if the revision was refused, if the queue is full, or after HOLD_SECONDS.
        """
        waiting = asyncio.ensure_future(pool.wait(HOLD_SECONDS))
        try:
            while not (await asyncio.wait({waiting}, timeout=QUARANTINE_POLL_SECONDS))[0]:
                await self._check_quarantine(table)
            return waiting.result()
        except PoolBusy:
            raise Problem(
                503,
                "INSTANCE_STARTING",
                f"{table.deployment} was asleep and is being started; try again in a moment",
                headers={"Retry-After": "2"},
            ) from None
        finally:
            if not waiting.done():
                waiting.cancel()

    def _measure(self) -> dict[str, LoadDoc]:
        """The load by deployment, of those that are in use or have just ceased to be."""
        now = time.time()
        all_pools = self._tables.pools
        busy = {deployment for deployment, pools in all_pools.items() if _busy(pools)}
        told, self._told_busy = self._told_busy, busy
        return {
            deployment: LoadDoc(now, _measure(all_pools[deployment]))
            for deployment in busy | (told & all_pools.keys())
        }

    async def _tell(self, loads: dict[str, LoadDoc]) -> None:
        async with self._store.pipeline(transaction=False) as pipe:
            for deployment, load in loads.items():
                pipe.hset(keys.load(deployment), self._tables.gateway_id, store.dumps(load.to_json()))
                pipe.expire(keys.load(deployment), math.ceil(LOAD_SECONDS))
                wake.nudge(pipe, "demand", deployment)
            await pipe.execute()

    async def _check_quarantine(self, table: Table) -> None:
        try:
            raw = await self._store.hget(keys.quarantine(table.deployment), table.tree)
        except UNAVAILABLE:
            return
        if raw is not None:
            raise Problem(
                503,
                "REVISION_REFUSED",
                f"{table.deployment} at {table.commit:.7} cannot run: {_reason(raw)}",
                headers={"Retry-After": "30"},
            )


def _busy(pools: PoolSet) -> bool:
    return any(pool.busy for pool in pools.by_name.values() if pool.limits.elastic)


def _measure(pools: PoolSet) -> dict[str, PoolLoad]:
    """By the pools as they are defined: lanes for code and for LLMs are of the same instances."""
    loads: dict[str, PoolLoad] = {}
    for key, pool in pools.by_name.items():
        if pool.limits.elastic:
            name, load = pool_of(key), pool.measure()
            loads[name] = loads[name].plus(load) if name in loads else load
    return loads


def _reason(raw: bytes) -> str:
    found = orjson.loads(raw)
    return str(found.get("message") or found.get("reason") or "") if isinstance(found, dict) else str(found)
