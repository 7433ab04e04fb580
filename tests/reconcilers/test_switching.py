"""When routes switch from one revision to another whose pool is made differently, and when not."""

import asyncio

import orjson

from uhlp_core import keys, store
from uhlp_core.store import Store
from uhlp_reconcilers.outcome import Outcome
from uhlp_reconcilers.routes import Routes
from uhlp_state.documents import InstanceDoc, Lane, RegistryDoc, Revision, RoutesDoc
from uhlp_state.model import AppDefinition, PoolDefinition
from uhlp_state.snapshot import AppSnapshot

OLD = PoolDefinition.model_validate({"poolName": "main", "maxInstances": 3})
NEW = PoolDefinition.model_validate({"poolName": "main", "maxInstances": 3, "timeoutSeconds": 9})


def revision(commit: str, pool: PoolDefinition) -> Revision:
    pools = {"pools": [pool.model_dump(by_alias=True)]}
    definition = AppDefinition.model_validate({"appId": "app", "sandboxPools": pools})
    return Revision(commit, f"tree-{commit}", AppSnapshot("app", commit, f"tree-{commit}", definition, ()))


BEFORE, AFTER = revision("before", OLD), revision("after", NEW)


def instance(name: str, of: Revision) -> InstanceDoc:
    return InstanceDoc(
        instance=name,
        deployment="app",
        pool="main",
        spec=of.snapshot.pools["main"].spec_hash(),
        backend="process",
        state="ready",
        dir=f"/run/{name}",
        lanes=(Lane(f"/run/{name}/execute.sock", 8),),
        prepared=(of.tree,),
        pid=1,
        started_at=1.0,
        restarts=0,
    )


async def reconciled(
    redis: Store, instances: list[InstanceDoc], refused: Revision | None = None
) -> RoutesDoc:
    """The routes once these are the instances."""
    wanted = RegistryDoc("app", "app", "main", "after", False, False, (AFTER, BEFORE))
    async with redis.pipeline() as pipe:
        pipe.set(keys.registry("app"), store.dumps(wanted.to_json()))
        pipe.delete(keys.instances("app"))
        for one in instances:
            pipe.hset(keys.instances("app"), one.instance, store.dumps(one.to_json()))
        if refused is not None:
            pipe.hset(keys.quarantine("app"), refused.tree, b"{}")
        await pipe.execute()
    outcome: Outcome = await Routes(redis).reconcile("app", asyncio.Event())
    assert outcome is not None
    return RoutesDoc.from_json(orjson.loads(await redis.get(keys.routes("app"))))


async def test_the_switch_waits_for_as_many_as_serve_now(redis: Store) -> None:
    old = [instance("o1", BEFORE), instance("o2", BEFORE)]
    assert (await reconciled(redis, old)).instances == {"o1", "o2"}
    routes = await reconciled(redis, [*old, instance("n1", AFTER)])
    assert (routes.snapshot.commit, routes.instances) == ("before", {"o1", "o2"})
    routes = await reconciled(redis, [*old, instance("n1", AFTER), instance("n2", AFTER)])
    assert (routes.snapshot.commit, routes.instances) == ("after", {"n1", "n2"})


async def test_it_waits_for_none_that_died_meanwhile(redis: Store) -> None:
    await reconciled(redis, [instance("o1", BEFORE), instance("o2", BEFORE)])
    routes = await reconciled(redis, [instance("o2", BEFORE), instance("n1", AFTER)])
    assert (routes.snapshot.commit, routes.instances) == ("after", {"n1"})


async def test_nobody_goes_back_because_instances_died_but_because_a_revision_was_refused(
    redis: Store,
) -> None:
    old = [instance("o1", BEFORE)]
    await reconciled(redis, old)
    await reconciled(redis, [*old, instance("n1", AFTER)])
    routes = await reconciled(redis, old)
    assert (routes.snapshot.commit, routes.instances) == ("after", frozenset())
    routes = await reconciled(redis, old, refused=AFTER)
    assert (routes.snapshot.commit, routes.instances) == ("before", {"o1"})
