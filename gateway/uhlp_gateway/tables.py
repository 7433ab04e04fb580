"""Keeps the tables in step with Redis: reads RoutesDocs, swaps tables, acknowledges, tells that we live.

If Redis is away the tables stay as they are. A table goes only when Redis says, without error, that its
deployment exists no more.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable, Sequence

import orjson

from uhlp_core import keys, wake
from uhlp_core.home import Home
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_gateway.lanes import PoolSet
from uhlp_gateway.table import Table, build
from uhlp_state.json_schema.check_pool import CheckPool

HEARTBEAT_SECONDS = 1.0
HEARTBEAT_EXPIRY_SECONDS = 3
"""Two beats may be lost before routes stops waiting for this gateway."""

LOOK_EVERY_BEATS = 5
"""A full look at the set of deployments happens every so many beats, whatever wake-ups got lost."""

WIPED_GRACE_SECONDS = 10.0
"""A Redis that lost everything also names no deployments, until the registry has filled it again from Git."""

RETRY_SECONDS = 0.2

_log = logging.getLogger(__name__)


class Tables:
    """The tables in force, by deployment id, and the pools that they share over time."""

    def __init__(self, store: Store, home: Home, checks: CheckPool) -> None:
        """`checks` is for the schemas of all of them."""
        self.gateway_id = secrets.token_hex(8)
        self.loaded = asyncio.Event()
        """Set once the first full look is done."""
        self.queueing = asyncio.Event()
        """Set when a request begins to wait for a lane; whoever cares clears it."""
        self.by_deployment: dict[str, Table] = {}
        self.pools: dict[str, PoolSet] = {}
        self._store = store
        self._home = home
        self._checks = checks
        self._raw: dict[str, bytes] = {}
        self._looking = asyncio.Lock()
        self._empty_since: float | None = None

    async def follow(self) -> None:
        """Apply every wake-up, for ever."""
        async for _, deployment in wake.listen(self._store, "routes"):
            while True:
                try:
                    await (self.look() if deployment is None else self._load((deployment,)))
                    break
                except UNAVAILABLE:
                    await asyncio.sleep(RETRY_SECONDS)

    async def beat(self) -> None:
        """Tell that this gateway lives, for ever; and look at everything every few beats."""
        beats = 0
        while True:
            try:
                until = time.time() + HEARTBEAT_EXPIRY_SECONDS
                await self._store.zadd(keys.GATEWAYS, {self.gateway_id: until})
                if beats % LOOK_EVERY_BEATS == LOOK_EVERY_BEATS - 1:
                    await self.look()
            except UNAVAILABLE as error:
                _log.debug("Redis is away: %s", error)
            beats += 1
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def look(self) -> None:
        """Read every deployment's table and drop those of deployments that are gone.

        Raises what UNAVAILABLE lists.
        """
        named: set[str] = {member.decode() for member in await self._store.smembers(keys.DEPLOYMENTS)}
        now = asyncio.get_running_loop().time()
        if named or not self.by_deployment:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
        await self._load(sorted(named))
        if self._empty_since is None or now - self._empty_since >= WIPED_GRACE_SECONDS:
            for deployment in self.by_deployment.keys() - named:
                self._drop(deployment)
        self.loaded.set()

    async def leave(self) -> None:
        """Take back the heartbeat and the acknowledgements, so that nobody waits for this gateway."""
        try:
            async with self._store.pipeline(transaction=False) as pipe:
                pipe.zrem(keys.GATEWAYS, self.gateway_id)
                for deployment in self.by_deployment:
                    pipe.hdel(keys.acks(deployment), self.gateway_id)
                    wake.nudge(pipe, "acks", deployment)
                await pipe.execute()
        except UNAVAILABLE as error:
            _log.debug("Redis is away: %s; the heartbeat expires by itself", error)

    def close(self) -> None:
        for pools in self.pools.values():
            pools.close()

    async def _load(self, deployments: Iterable[str]) -> None:
        """Bring the tables of these deployments into line, and acknowledge what is in force."""
        async with self._looking:
            wanted = tuple(deployments)
            if not wanted:
                return
            documents = await self._store.mget([keys.routes(deployment) for deployment in wanted])
            for deployment, raw in zip(wanted, documents, strict=True):
                # Without a document there is nothing new to serve: the table in force stays.
                if raw is not None and raw != self._raw.get(deployment):
                    await self._swap(deployment, raw)
            await self._acknowledge([one for one in wanted if one in self.by_deployment])

    async def _swap(self, deployment: str, raw: bytes) -> None:
        try:
            table = await asyncio.to_thread(lambda: build(orjson.loads(raw), self._home, self._checks))
        except (KeyError, TypeError, ValueError) as error:
            _log.error(
                "the routes cannot be read, the table in force stays: %r",
                error,
                extra={"deployment": deployment},
            )
            return
        self._raw[deployment] = raw
        self.pools.setdefault(deployment, PoolSet(self.queueing.set)).update(table.limits, table.lanes)
        self.by_deployment[deployment] = table

    async def _acknowledge(self, deployments: Sequence[str]) -> None:
        """Write the generations in force where Redis does not know them (it may have lost them)."""
        async with self._store.pipeline(transaction=False) as pipe:
            for deployment in deployments:
                pipe.hget(keys.acks(deployment), self.gateway_id)
            known = await pipe.execute()
            for deployment, generation in zip(deployments, known, strict=True):
                table = self.by_deployment[deployment]
                if generation is None or int(generation) != table.generation:
                    pipe.hset(keys.acks(deployment), self.gateway_id, table.generation)
                    wake.nudge(pipe, "acks", deployment)
            await pipe.execute()

    def _drop(self, deployment: str) -> None:
        self.by_deployment.pop(deployment, None)
        self._raw.pop(deployment, None)
        if (pools := self.pools.pop(deployment, None)) is not None:
            pools.retire()
