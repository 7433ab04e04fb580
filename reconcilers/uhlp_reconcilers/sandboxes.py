"""Bring each deployment's running instances into line with the pools of its wanted revisions.

Reads registry documents, writes instance documents. An instance that is not wanted any more is first taken
out of the routes, and removed once no gateway sends it requests. Knows nothing of Git.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Container, Coroutine, Mapping
from dataclasses import asdict, dataclass, field

import orjson

from uhlp_core import events, keys, store, wake
from uhlp_core.home import Home
from uhlp_core.ids import Deployment
from uhlp_core.store import Store
from uhlp_reconcilers.backends.protocol import BackendError, InstanceSpec, SandboxBackend
from uhlp_reconcilers.environments.environments import Environments, Survey
from uhlp_reconcilers.gateways import gateways_behind
from uhlp_reconcilers.instances import Held, RevisionRefused, become_ready, is_healthy, prepare
from uhlp_reconcilers.outcome import Done, Gone, Outcome, Retry, Stalled, Waiting
from uhlp_state.documents import RegistryDoc, Revision, RoutesDoc
from uhlp_state.model import PoolDefinition

log = logging.getLogger(__name__)

DRAIN_SECONDS = 30.0
"""What an instance may take to finish its requests before it is stopped."""

SHORT_LIFE = 10.0
"""An instance that lived shorter than this counts as crashing; its successors start with growing pauses."""

MAX_CRASH_PAUSE = 30.0
MAX_MISSED_HEALTH_CHECKS = 2


@dataclass(slots=True)
class _Crashes:
    """How often a pool's instances died young, and when the next may start."""

    count: int = 0
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class _Want:
    """So many instances of one pool definition."""

    pool: str
    definition: PoolDefinition
    spec: str
    count: int


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a revision cannot be brought into force."""

    reason: str
    message: str


@dataclass(slots=True)
class _Fleet:
    """The instances of one deployment."""

    held: dict[str, Held] = field(default_factory=dict)
    crashes: dict[str, _Crashes] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    published: dict[str, bytes] = field(default_factory=dict)
    survey: Survey = field(default_factory=Survey)
    """The packages of the wanted revisions, as of this run."""

    def starting(self) -> list[Held]:
        return [held for held in self.held.values() if held.state == "starting"]

    def of(self, spec: str, pool: str) -> list[Held]:
        return [
            held
            for held in self.held.values()
            if held.instance.spec == spec and held.instance.pool == pool and held.state != "draining"
        ]


class Sandboxes:
    """The sandboxes reconciler: one key is one deployment."""

    name = "sandboxes"

    def __init__(self, home: Home, redis: Store, backend: SandboxBackend, environments: Environments) -> None:
        self._home = home
        self._redis = redis
        self._backend = backend
        self._environments = environments
        self._fleets: dict[str, _Fleet] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.enqueue: Callable[[str], None] = lambda deployment: None

    async def adopt(self) -> None:
        """Take over instances of an earlier daemon. Raises BackendError if they cannot be listed."""
        for instance in await self._backend.list():
            held = Held(instance)
            self._fleets.setdefault(instance.deployment, _Fleet()).held[instance.instance] = held
            self._watch_exit(held)
        for deployment in self._fleets:
            self.enqueue(deployment)

    # -- one deployment --------------------------------------------------------------------------------

    async def reconcile(self, key: str, pressure: asyncio.Event) -> Outcome:
        """Close the gap; give up at once when Git wants something else meanwhile."""
        raw_wanted = await self._redis.get(keys.registry(key))
        work = asyncio.create_task(self._bring_into_line(key, raw_wanted), name=f"sandboxes:{key}")
        nudged = False
        try:
            while not work.done():
                alarm = asyncio.create_task(pressure.wait())
                await asyncio.wait({work, alarm}, return_when=asyncio.FIRST_COMPLETED)
                alarm.cancel()
                if pressure.is_set() and not work.done():
                    nudged = True
                    if await self._redis.get(keys.registry(key)) != raw_wanted:
                        return Waiting("Preempted", "a newer commit came before this one was ready")
                    pressure.clear()
            return await work
        except BackendError as error:
            attempted = orjson.loads(raw_wanted)["head"] if raw_wanted else None
            raise Retry("SandboxBackendFailed", str(error), attempted=attempted) from error
        finally:
            if nudged:
                pressure.set()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})

    async def _bring_into_line(self, key: str, raw_wanted: bytes | None) -> Outcome:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(keys.routes(key))
            pipe.pttl(keys.demand(key))
            pipe.hgetall(keys.quarantine(key))
            raw_routes, demand_ms, raw_refused = await pipe.execute()
        fleet = self._fleets.setdefault(key, _Fleet())
        routes = RoutesDoc.from_json(orjson.loads(raw_routes)) if raw_routes else None
        if raw_wanted is None:
            return await self._dismantle(key, fleet, routes)
        wanted = RegistryDoc.from_json(orjson.loads(raw_wanted))
        refused = {
            entry["commit"]: _Refusal(entry["reason"], entry["message"])
            for entry in map(orjson.loads, raw_refused.values())
        }
        asked_for = demand_ms > 0
        await self._forget_refusals(wanted, raw_refused)

        await self._bury_the_dead(key, fleet)
        refused |= await self._see_to_packages(wanted, fleet, refused)
        wants = _wants(wanted, routes, refused, asked_for=asked_for)
        pause = await self._start_missing(wanted, fleet, wants)
        await self._become_ready(wanted, fleet)
        refused |= await self._load_revisions(wanted, fleet, refused)
        self._mark_surplus(fleet, _wants(wanted, routes, refused, asked_for=asked_for))
        await self._publish(key, fleet)
        await self._remove_drained(fleet, routes)
        if wanted.head in refused:
            raise Stalled(
                refused[wanted.head].reason,
                refused[wanted.head].message,
                attempted=wanted.head,
                applied=wanted.revisions[1].commit if len(wanted.revisions) > 1 else None,
            )
        if pause is not None:
            message = "instances die soon after their start; see `uhlp logs`"
            raise Retry("InstancesCrashing", message, after=pause, attempted=wanted.head)
        if waiting := _packages_outcome(wanted, fleet):
            return waiting
        return _outcome(wanted, fleet, again_after=demand_ms / 1000 + 0.2 if asked_for else None)

    async def _dismantle(self, key: str, fleet: _Fleet, routes: RoutesDoc | None) -> Outcome:
        """The deployment is gone: remove everything, gently while routes still name it."""
        self._environments.forget(key)
        self._mark_surplus(fleet, [])
        await self._publish(key, fleet)
        await self._remove_drained(fleet, routes)
        if fleet.held:
            return Waiting(
                "Draining", f"{len(fleet.held)} instance(s) finish their requests", again_after=1.0
            )
        self._fleets.pop(key, None)
        await self._redis.delete(keys.instances(key), keys.quarantine(key), keys.demand(key))
        return Gone()

    async def _bury_the_dead(self, key: str, fleet: _Fleet) -> None:
        for held in [held for held in fleet.held.values() if not held.instance.alive]:
            instance = held.instance
            # First, since a backend that cannot do it now is asked again.
            await self._backend.remove(instance, grace=0)
            del fleet.held[instance.instance]
            if held.state != "draining":
                fleet.restarts[instance.pool] = fleet.restarts.get(instance.pool, 0) + 1
                crashes = fleet.crashes.setdefault(instance.pool, _Crashes())
                if time.time() - instance.started_at < SHORT_LIFE:
                    crashes.count += 1
                    pause = min(MAX_CRASH_PAUSE, 0.1 * 2.0**crashes.count)
                    crashes.not_before = time.monotonic() + pause
                else:
                    crashes.count = 0
                await self._tell_exit(key, held)

    async def _tell_exit(self, key: str, held: Held) -> None:
        instance = held.instance
        reason = instance.exit_reason or "ended while no daemon looked"
        log.warning(
            "instance %s: %s",
            instance.instance,
            reason,
            extra={"deployment": key, "pool": instance.pool},
        )
        event = events.Event(
            app=Deployment.parse(key).app,
            deployment=key,
            component=self.name,
            reason="InstanceExited",
            message=f"{instance.instance} of pool {instance.pool}: {reason}",
            type="Warning",
        )
        async with self._redis.pipeline(transaction=False) as pipe:
            events.record(pipe, event)
            await pipe.execute()

    async def _see_to_packages(
        self, wanted: RegistryDoc, fleet: _Fleet, refused: Container[str]
    ) -> dict[str, _Refusal]:
        """Have the wanted revisions' packages installed; returns what was newly refused."""
        serving = {held.instance.spec for held in fleet.held.values() if held.state == "ready"}
        fleet.survey = await self._environments.survey(wanted, refused, serving)
        newly = {
            commit: _Refusal("DependenciesNotInstalled", message)
            for commit, message in fleet.survey.refused.items()
        }
        for revision in wanted.revisions:
            if revision.commit in newly:
                await self._quarantine(wanted.deployment, revision, newly[revision.commit])
        return newly

    async def _start_missing(self, wanted: RegistryDoc, fleet: _Fleet, wants: list[_Want]) -> float | None:
        """Start what lacks, all pools at once. Returns the pause before a crashing pool may start again."""
        pause: float | None = None
        starting = []
        for want in wants:
            if want.spec not in fleet.survey.packages:
                continue  # It is started as soon as its packages are there.
            crashes = fleet.crashes.get(want.pool, _Crashes())
            missing = want.count - len(fleet.of(want.spec, want.pool))
            if missing > 0 and time.monotonic() < crashes.not_before:
                pause = max(pause or 0.0, crashes.not_before - time.monotonic())
                continue
            starting += [
                asyncio.create_task(self._start(wanted, fleet, want), name=f"start:{want.pool}")
                for _ in range(missing)
            ]
        # Shielded: an instance that was created must be on our books, whoever loses interest meanwhile.
        await asyncio.gather(*(asyncio.shield(task) for task in starting))
        return pause

    async def _start(self, wanted: RegistryDoc, fleet: _Fleet, want: _Want) -> None:
        spec = InstanceSpec(
            instance=secrets.token_hex(5),
            app=wanted.app,
            deployment=wanted.deployment,
            pool=want.pool,
            spec_hash=want.spec,
            mode=want.definition.execution_mode,
            concurrency=want.definition.concurrency,
            trees=self._home.trees / wanted.app,
            timeout_seconds=want.definition.timeout_seconds,
            limits=want.definition.resource_limits,
            log=self._home.app_log(wanted.app),
            env_paths=fleet.survey.packages[want.spec],
            image=want.definition.docker_image,
            isolation=want.definition.isolation,
        )
        instance = await self._backend.ensure(spec)
        held = Held(instance, restarts=fleet.restarts.get(want.pool, 0))
        fleet.held[instance.instance] = held
        self._watch_exit(held)
        context = {"deployment": wanted.deployment, "pool": want.pool}
        log.info("started %s", instance.instance, extra=context)

    async def _become_ready(self, wanted: RegistryDoc, fleet: _Fleet) -> None:
        """Wait for what is starting; replace what does not come up. Raises Retry."""
        starting = fleet.starting()
        results = await asyncio.gather(*map(become_ready, starting), return_exceptions=True)
        failed: Retry | None = None
        for held, result in zip(starting, results, strict=True):
            if isinstance(result, Retry):
                await self._backend.remove(held.instance, grace=0)
                failed = Retry(result.reason, str(result), attempted=wanted.head)
            elif isinstance(result, BaseException):
                raise result
        if failed:
            raise failed

    async def _load_revisions(
        self, wanted: RegistryDoc, fleet: _Fleet, refused: Container[str]
    ) -> dict[str, _Refusal]:
        """Load every wanted revision into the instances that can serve it; returns what was newly refused.

        The older revision comes first: it is what serves until the newer one is ready.
        """
        newly: dict[str, _Refusal] = {}
        for revision in reversed(wanted.revisions):
            if revision.commit in refused:
                continue
            loading = [
                prepare(held, revision.snapshot)
                for name in revision.snapshot.pools
                for held in fleet.of(revision.snapshot.pool_spec(name), name)
            ]
            for result in await asyncio.gather(*loading, return_exceptions=True):
                if isinstance(result, RevisionRefused):
                    newly[revision.commit] = _Refusal("HandlersNotLoadable", str(result))
                elif isinstance(result, BaseException):
                    raise result
            if revision.commit in newly:
                await self._quarantine(wanted.deployment, revision, newly[revision.commit])
        return newly

    async def _forget_refusals(self, wanted: RegistryDoc, raw_refused: Mapping[bytes, bytes]) -> None:
        """A refusal counts for its commit. Pushed again with another, the same tree is tried again: what was
        wrong may have been outside of it, such as a package that was not there.
        """
        again = [
            revision.tree
            for revision in wanted.revisions
            if (raw := raw_refused.get(revision.tree.encode()))
            and orjson.loads(raw)["commit"] != revision.commit
        ]
        if again:
            await self._redis.hdel(keys.quarantine(wanted.deployment), *again)

    async def _quarantine(self, deployment: str, revision: Revision, refusal: _Refusal) -> None:
        entry = {"commit": revision.commit, **asdict(refusal), "at": time.time()}
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(keys.quarantine(deployment), revision.tree, store.dumps(entry))
            wake.nudge(pipe, "instances", deployment)
            await pipe.execute()

    def _mark_surplus(self, fleet: _Fleet, wants: list[_Want]) -> None:
        """Take instances beyond what is wanted out of use. The oldest of a pool stay."""
        counts = {(want.pool, want.spec): want.count for want in wants}
        for held in sorted(fleet.held.values(), key=lambda held: held.instance.started_at):
            place = (held.instance.pool, held.instance.spec)
            if held.state == "draining" or counts.get(place, 0) <= 0:
                held.state = "draining"
            else:
                counts[place] -= 1

    async def _remove_drained(self, fleet: _Fleet, routes: RoutesDoc | None) -> None:
        """Remove draining instances that no gateway sends requests to any more."""
        routed = routes.instances if routes else frozenset()
        free = [
            held
            for held in fleet.held.values()
            if held.state == "draining" and not held.removing and held.instance.instance not in routed
        ]
        if free and routes and await gateways_behind(self._redis, routes.deployment, routes.generation):
            return
        for held in free:
            held.removing = True
            self._in_background(self._remove(fleet, held), f"remove:{held.instance.instance}")

    async def _remove(self, fleet: _Fleet, held: Held) -> None:
        """Runs beside the loop: an instance may take long to finish its last requests."""
        instance = held.instance
        context = {"deployment": instance.deployment, "pool": instance.pool}
        try:
            await self._backend.remove(instance, grace=DRAIN_SECONDS)
        except BackendError as error:
            log.warning("%s is not removed yet: %s", instance.instance, error, extra=context)
            held.removing = False  # It is draining still, so the next run tries again.
        else:
            fleet.held.pop(instance.instance, None)
            log.info("removed %s", instance.instance, extra=context)
        self.enqueue(instance.deployment)

    async def _publish(self, key: str, fleet: _Fleet) -> None:
        """Write what changed of the instance documents, and tell so."""
        now = {held.instance.instance: store.dumps(held.doc().to_json()) for held in fleet.held.values()}
        if now == fleet.published and await self._redis.hlen(keys.instances(key)) == len(now):
            return
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.instances(key))
            if now:
                pipe.hset(keys.instances(key), mapping=now)
            wake.nudge(pipe, "instances", key)
            await pipe.execute()
        fleet.published = now

    # -- exits and health ------------------------------------------------------------------------------

    def _watch_exit(self, held: Held) -> None:
        async def wait() -> None:
            await self._backend.wait(held.instance)
            self.enqueue(held.instance.deployment)

        self._in_background(wait(), f"exit:{held.instance.instance}")

    def _in_background(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def check_health(self) -> None:
        """Ask every ready instance whether it still answers; kill those that missed too often."""
        ready = [
            held for fleet in self._fleets.values() for held in fleet.held.values() if held.state == "ready"
        ]
        for held in ready:
            held.missed = 0 if await is_healthy(held) else held.missed + 1
            if held.missed >= MAX_MISSED_HEALTH_CHECKS:
                context = {"deployment": held.instance.deployment, "pool": held.instance.pool}
                log.error("instance %s does not answer; replacing it", held.instance.instance, extra=context)
                try:
                    await self._backend.remove(held.instance, grace=0)
                except BackendError as error:
                    log.warning("%s is not removed yet: %s", held.instance.instance, error, extra=context)
                self.enqueue(held.instance.deployment)

    async def close(self) -> None:
        """Stop watching; instances go on running."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def remove_all(self) -> None:
        """Stop every instance: the whole platform goes down."""
        instances = await self._backend.list()
        await asyncio.gather(*(self._backend.remove(instance, grace=2.0) for instance in instances))


def _wants(
    wanted: RegistryDoc, routes: RoutesDoc | None, refused: Container[str], *, asked_for: bool
) -> list[_Want]:
    """Instances wanted: the newest revision's pools, and the served revision's until the switch is done."""
    if wanted.suspended:
        return []
    revisions = [revision for revision in wanted.revisions if revision.commit not in refused]
    if routes and revisions and routes.snapshot.commit == revisions[0].commit:
        revisions = revisions[:1]
    wants: dict[tuple[str, str], _Want] = {}
    for revision in revisions:
        for name, pool in revision.snapshot.pools.items():
            least = 0 if wanted.on_demand else pool.min_instances
            count = max(least, 1) if asked_for else least
            spec = revision.snapshot.pool_spec(name)
            wants.setdefault((name, spec), _Want(name, pool, spec, count))
    return list(wants.values())


def _packages_outcome(wanted: RegistryDoc, fleet: _Fleet) -> Outcome | None:
    """What to say while the newest revision's packages are not there; None if they are. Raises Retry."""
    newest = wanted.revisions[0] if wanted.revisions else None
    if newest is None or all(
        newest.snapshot.pool_spec(name) in fleet.survey.packages
        or fleet.of(newest.snapshot.pool_spec(name), name)
        for name in newest.snapshot.pools
    ):
        return None
    if delayed := fleet.survey.delayed.get(newest.commit):
        message, pause = delayed
        raise Retry("DependenciesUnavailable", message, after=pause, attempted=wanted.head)
    if progress := fleet.survey.pending.get(newest.commit):
        return Waiting("InstallingDependencies", progress, attempted=wanted.head, again_after=1.0)
    return None


def _outcome(wanted: RegistryDoc, fleet: _Fleet, *, again_after: float | None) -> Outcome:
    draining = sum(1 for held in fleet.held.values() if held.state == "draining")
    if draining:
        again_after = min(again_after or 1.0, 1.0)
    newest = wanted.revisions[0].commit if wanted.revisions else None
    running = len(fleet.held) - draining
    message = f"{running} instance(s)" + (f", {draining} draining" if draining else "")
    return Done("PoolsReady", message, attempted=wanted.head, applied=newest, again_after=again_after)
