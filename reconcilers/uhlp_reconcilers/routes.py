"""Bring each deployment's published routes into line with the newest revision whose pools are ready.

Reads registry and instance documents, writes one `RoutesDoc` per deployment and waits until every gateway
alive has it in force. Knows nothing of Git, containers or sockets.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping

import orjson

from uhlp_core import keys, store, wake
from uhlp_core.store import Store
from uhlp_reconcilers.gateways import gateways_behind
from uhlp_reconcilers.outcome import Done, Gone, Outcome, Stalled, Waiting
from uhlp_reconcilers.scaling import to_switch
from uhlp_state.documents import InstanceDoc, Lane, RegistryDoc, Revision, RoutesDoc


class Routes:
    """The routes reconciler: one key is one deployment."""

    name = "routes"

    def __init__(self, redis: Store) -> None:
        self._redis = redis

    async def reconcile(self, key: str, pressure: asyncio.Event) -> Outcome:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(keys.registry(key))
            pipe.hvals(keys.instances(key))
            pipe.get(keys.routes(key))
            pipe.hgetall(keys.quarantine(key))
            raw_wanted, raw_instances, raw_published, raw_refused = await pipe.execute()
        if raw_wanted is None:
            await self._withdraw(key)
            return Gone()
        wanted = RegistryDoc.from_json(orjson.loads(raw_wanted))
        instances = [InstanceDoc.from_json(orjson.loads(raw)) for raw in raw_instances]
        published = RoutesDoc.from_json(orjson.loads(raw_published)) if raw_published else None
        refused = {tree.decode() for tree in raw_refused}
        current = published.snapshot.commit if published else None
        if not wanted.revisions:
            if wanted.forbidden and published and published.instances:
                await self._publish(published.without_instances(_next_generation(published)))
            raise Stalled("NoValidRevision", "no commit of this branch can be served", attempted=wanted.head)
        routed = _routed(published, instances)
        chosen = _choose(wanted, instances, current, refused, routed)
        if chosen is None:
            newest = wanted.revisions[0]
            missing = ", ".join(_unready(newest, instances, routed, preview=wanted.on_demand))
            return Waiting("PoolsNotReady", f"waiting for pools {missing}", newest.commit, current)
        doc = RoutesDoc(
            deployment=key,
            app=wanted.app,
            generation=_next_generation(published),
            suspended=wanted.suspended,
            on_demand=wanted.on_demand or _sleeps(chosen),
            snapshot=chosen.snapshot,
            pools={pool: _lanes(chosen, pool, instances) for pool in chosen.snapshot.pools},
        )
        if doc.says_the_same(published):
            assert published is not None
            doc = published
        else:
            await self._publish(doc)
        return await self._conclude(wanted, chosen, doc, instances, routed)

    async def _conclude(
        self,
        wanted: RegistryDoc,
        chosen: Revision,
        doc: RoutesDoc,
        instances: list[InstanceDoc],
        routed: Mapping[str, int],
    ) -> Outcome:
        """Ready means: the newest revision is in force in every gateway alive."""
        newest = wanted.revisions[0]
        late = await gateways_behind(self._redis, doc.deployment, doc.generation)
        if late:
            return Waiting(
                "WaitingForGateways",
                f"{len(late)} gateway(s) have not taken the new routes yet",
                attempted=newest.commit,
                again_after=wake.POLL_SECONDS,
            )
        if chosen.commit != newest.commit:
            missing = ", ".join(_unready(newest, instances, routed, preview=wanted.on_demand))
            return Waiting("PoolsNotReady", f"waiting for pools {missing}", newest.commit, chosen.commit)
        if wanted.suspended:
            return Done("Suspended", "suspended; requests are refused", newest.commit, chosen.commit)
        asleep = doc.on_demand and not doc.instances
        return Done("Live", "starts at its first request" if asleep else "", newest.commit, chosen.commit)

    async def _publish(self, doc: RoutesDoc) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.routes(doc.deployment), store.dumps(doc.to_json()))
            wake.nudge(pipe, "routes", doc.deployment)
            await pipe.execute()

    async def _withdraw(self, deployment: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.routes(deployment), keys.acks(deployment))
            wake.nudge(pipe, "routes", deployment)
            await pipe.execute()


def _choose(
    wanted: RegistryDoc,
    instances: list[InstanceDoc],
    current: str | None,
    refused: set[str],
    routed: Mapping[str, int],
) -> Revision | None:
    """The newest revision whose pools are ready and that was not refused; else the one in force goes on.

    A deployment that sleeps (or is suspended) has no instances to wait for.
    """
    for revision in wanted.revisions:
        if revision.tree in refused:
            continue
        # What is in force need not prove itself again: that its instances have died is no reason to go back
        # to an older revision, some of whose instances may not have gone yet.
        if revision.commit == current or wanted.suspended:
            return revision
        if not list(_unready(revision, instances, routed, preview=wanted.on_demand)):
            return revision
    return next((revision for revision in wanted.revisions if revision.commit == current), None)


def _routed(published: RoutesDoc | None, instances: list[InstanceDoc]) -> Mapping[str, int]:
    """By pool, how many instances serve the revision in force."""
    ready = {item.instance for item in instances if item.state == "ready"}
    pools = published.pools if published else {}
    return {pool: len(ready & {instance for instance, _ in lanes}) for pool, lanes in pools.items()}


def _unready(
    revision: Revision, instances: list[InstanceDoc], routed: Mapping[str, int], *, preview: bool
) -> Iterable[str]:
    """Pools that have fewer instances ready for this revision than it takes to serve it."""
    for name, pool in revision.snapshot.pools.items():
        spec = revision.snapshot.pool_spec(name)
        ready = sum(1 for item in instances if item.pool == name and item.serves(spec, revision.tree))
        needed = to_switch(pool, routed.get(name, 0), preview=preview)
        if ready < needed:
            yield f"{name} ({ready} of {needed})"


def _lanes(revision: Revision, pool: str, instances: list[InstanceDoc]) -> tuple[tuple[str, Lane], ...]:
    spec = revision.snapshot.pool_spec(pool)
    return tuple(
        (item.instance, lane)
        for item in sorted(instances, key=lambda item: item.instance)
        if item.pool == pool and item.serves(spec, revision.tree)
        for lane in item.lanes
    )


def _sleeps(revision: Revision) -> bool:
    """Whether some pool may have no instance at all while nobody asks."""
    return any(pool.min_instances == 0 for pool in revision.snapshot.pools.values())


def _next_generation(published: RoutesDoc | None) -> int:
    """Larger than any before, even after Redis forgot everything: gateways remember what they have."""
    return max(int(time.time() * 1000), (published.generation if published else 0) + 1)
