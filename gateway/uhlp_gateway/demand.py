"""Wakes deployments whose instances are started by the first request, and keeps them awake while used.

A request only notes a name in a set; a task tells Redis. Redis forgets by itself when nobody asks any more.
"""

import asyncio
import logging

import orjson

from uhlp_core import keys, wake
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_gateway.lanes import Lane, Pool, PoolBusy
from uhlp_gateway.problems import Problem
from uhlp_gateway.table import Table

REFRESH_SECONDS = 3.0
"""How often the demand of a deployment in use is renewed."""

HOLD_SECONDS = 15.0
"""How long a request waits for a sleeping deployment to come up."""

QUARANTINE_POLL_SECONDS = 0.25
"""How often a waiting request asks whether its revision was refused meanwhile."""

_log = logging.getLogger(__name__)


class Demand:
    """What was asked for since the last word to Redis."""

    def __init__(self, store: Store, idle_seconds: float) -> None:
        self._store = store
        self._expiry = max(1, round(idle_seconds))
        self._used: set[str] = set()

    def note(self, deployment: str) -> None:
        """A deployment that sleeps when unused is in use."""
        self._used.add(deployment)

    async def run(self) -> None:
        """Renew the demand for what is in use, for ever."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            used, self._used = self._used, set()
            try:
                for deployment in used:
                    await self._store.set(keys.demand(deployment), b"{}", ex=self._expiry)
            except UNAVAILABLE as error:
                self._used |= used
                _log.debug("Redis is away: %s", error)

    async def hold(self, table: Table, pool: Pool) -> Lane:
        """Ask for an instance and wait in the pool's queue until it is there.

        Raises Problem: 503 if the revision was refused, if the queue is full, or after HOLD_SECONDS.
        """
        await self._ask(table.deployment)
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

    async def _ask(self, deployment: str) -> None:
        try:
            async with self._store.pipeline(transaction=False) as pipe:
                pipe.set(keys.demand(deployment), b"{}", ex=self._expiry)
                wake.nudge(pipe, "demand", deployment)
                await pipe.execute()
        except UNAVAILABLE as error:
            _log.warning("cannot ask for an instance: %s", error, extra={"deployment": deployment})

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


def _reason(raw: bytes) -> str:
    found = orjson.loads(raw)
    return str(found.get("message") or found.get("reason") or "") if isinstance(found, dict) else str(found)
