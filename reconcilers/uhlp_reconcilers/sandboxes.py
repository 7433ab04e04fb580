"""Bring each deployment's running instances into line with the pools of its wanted revisions.

Reads registry documents, writes instance documents. An instance that is not wanted any more is first taken
out of the routes, and removed once no gateway sends it requests. Knows nothing of Git.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping
from typing import Literal

import orjson

from uhlp_core import events, keys, store, wake
from uhlp_core.home import Home
from uhlp_core.ids import Deployment
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_reconcilers import usage
from uhlp_reconcilers.backends.protocol import BackendError, Instance, InstanceSpec, SandboxBackend
from uhlp_reconcilers.environments.environments import Environments
from uhlp_reconcilers.fleet import Crashes, Fleet, Want, eligible_revisions
from uhlp_reconcilers.gateways import gateways_behind
from uhlp_reconcilers.instances import Held, RevisionRefused, become_ready, is_healthy, prepare
from uhlp_reconcilers.outcome import Gone, Outcome, Retry, Stalled, Waiting
from uhlp_reconcilers.pools_outcome import packages_outcome, pools_outcome
from uhlp_reconcilers.refusals import Refusal, forget_refusals, refusals, refuse
from uhlp_reconcilers.scaling import newest_loads
from uhlp_state.documents import InstanceDoc, LoadDoc, RegistryDoc, Revision, RoutesDoc

log = logging.getLogger(__name__)

DRAIN_SECONDS = 30.0
"""What an instance may take to finish its requests before it is stopped."""

DRAINING_LOOK_SECONDS = 1.0
"""How soon to look again at instances that could not be removed yet."""

MAX_MISSED_HEALTH_CHECKS = 2

NOBODY_LOOKED = "ended while no daemon looked"


class Sandboxes:
    """The sandboxes reconciler: one key is one deployment."""

    name = "sandboxes"

    def __init__(
        self,
        home: Home,
        redis: Store,
        backend: SandboxBackend,
        environments: Environments,
        preview_idle_seconds: float,
    ) -> None:
        self._home = home
        self._preview_idle_seconds = preview_idle_seconds
        self._redis = redis
        self._backend = backend
        self._environments = environments
        self._fleets: dict[str, Fleet] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.enqueue: Callable[[str], None] = lambda deployment: None

    async def adopt(self) -> None:
        """Take over instances of an earlier daemon, in the parts that they had.

        Raises BackendError if they cannot be listed, and what UNAVAILABLE lists.
        """
        found = []
        for instance in await self._backend.list():
            if instance.deployment:
                found.append(instance)
            else:  # Its start was cut short before it was written down whose it is.
                await self._backend.remove(instance, grace=0)
        deployments = sorted({instance.deployment for instance in found})
        async with self._redis.pipeline(transaction=False) as pipe:
            for deployment in deployments:
                pipe.hgetall(keys.instances(deployment))
            published = dict(zip(deployments, await pipe.execute(), strict=True))
        for instance in found:
            held = Held(instance)
            self._fleets.setdefault(instance.deployment, Fleet()).held[instance.instance] = held
            self._watch_exit(held)
        for deployment, documents in published.items():
            self._fleets[deployment].recall(
                {name.decode(): InstanceDoc.from_json(orjson.loads(raw)) for name, raw in documents.items()}
            )
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
            pipe.hgetall(keys.load(key))
            pipe.hgetall(keys.quarantine(key))
            raw_routes, raw_loads, raw_refused = await pipe.execute()
        fleet = self._fleets.setdefault(key, Fleet())
        routes = RoutesDoc.from_json(orjson.loads(raw_routes)) if raw_routes else None
        if raw_wanted is None:
            return await self._dismantle(key, fleet, routes)
        wanted = RegistryDoc.from_json(orjson.loads(raw_wanted))
        refused = refusals(raw_refused)
        await forget_refusals(self._redis, wanted, raw_refused)
        await self._note_loads(key, fleet, raw_loads)
        self._note_deaths(fleet)
        refused |= await self._see_to_packages(wanted, fleet, refused)
        look = await self._rescale(wanted, fleet, eligible_revisions(wanted, routes, refused))
        wants = fleet.wants(eligible_revisions(wanted, routes, refused), routes, preview=wanted.on_demand)
        if fleet.assign(wants) and not fleet.starting():
            await self._publish(key, fleet)  # They serve before others are started in their stead.
        # What one pool lacks must not keep the others from being healed: it is said at the end.
        failures = await self._start_missing(wanted, fleet, wants)
        failures += await self._become_ready(wanted, fleet)
        self._note_deaths(fleet)
        refused |= await self._load_revisions(wanted, fleet, refused)
        eligible = eligible_revisions(wanted, routes, refused)
        wants = fleet.wants(eligible, routes, preview=wanted.on_demand)
        _retire(list(fleet.held.values()) if wanted.suspended else fleet.surplus(wants))
        await self._publish(key, fleet)
        await self._remove_drained(fleet, routes)
        if eligible:
            look = _sooner(look, self._supply_standby(wanted, eligible[0], fleet, wants))
        if any(held.state == "draining" for held in fleet.held.values()):
            look = _sooner(look, DRAINING_LOOK_SECONDS)
        if failures:
            raise failures[0]
        if wanted.head in refused:
            raise Stalled(
                refused[wanted.head].reason,
                refused[wanted.head].message,
                attempted=wanted.head,
                applied=wanted.revisions[1].commit if len(wanted.revisions) > 1 else None,
                again_after=look,
            )
        if waiting := packages_outcome(wanted, fleet):
            return waiting
        return pools_outcome(wanted, fleet, wants, look)

    async def _note_loads(self, key: str, fleet: Fleet, raw: Mapping[bytes, bytes]) -> None:
        told = {gateway.decode(): LoadDoc.from_json(orjson.loads(load)) for gateway, load in raw.items()}
        fleet.loads = newest_loads(fleet.loads, told, time.time())
        if outdated := told.keys() - fleet.loads.keys():
            await self._redis.hdel(keys.load(key), *outdated)

    async def _rescale(self, wanted: RegistryDoc, fleet: Fleet, revisions: list[Revision]) -> float | None:
        """Follow the load, and tell of every change. Returns the seconds until the next look, if any."""
        before = {name: scale.count for name, scale in fleet.scales.items()}
        look = fleet.rescale(revisions, self._preview_idle_seconds if wanted.on_demand else None)
        for name, scale in fleet.scales.items():
            if scale.count != before.get(name, scale.count):
                message = f"pool {name}: {before[name]} → {scale.count} instance(s)"
                await self._tell(wanted.deployment, "PoolScaled", message)
        return look

    async def _dismantle(self, key: str, fleet: Fleet, routes: RoutesDoc | None) -> Outcome:
        """The deployment is gone: remove everything, gently while routes still name it."""
        self._environments.forget(key)
        _retire(list(fleet.held.values()))
        await self._publish(key, fleet)
        await self._remove_drained(fleet, routes)
        if fleet.held or fleet.supplying:
            return Waiting(
                "Draining", f"{len(fleet.held)} instance(s) finish their requests", again_after=1.0
            )
        self._fleets.pop(key, None)
        await self._redis.delete(keys.instances(key), keys.usage(key), keys.quarantine(key), keys.load(key))
        return Gone()

    def _note_deaths(self, fleet: Fleet) -> None:
        """Take those that died out of use: others take their places before anybody cleans up after them."""
        for held in fleet.held.values():
            if not held.instance.alive and held.state != "draining":
                instance = held.instance
                held.state, held.died = "draining", True
                fleet.exits[instance.pool] = instance.exit_reason or NOBODY_LOOKED
                if not held.standby:
                    fleet.restarts[instance.pool] = fleet.restarts.get(instance.pool, 0) + 1
                crashes = fleet.crashes.setdefault((instance.pool, held.standby), Crashes())
                crashes.note(time.time() - instance.started_at)

    async def _tell_exit(self, instance: Instance) -> None:
        key = instance.deployment
        reason = instance.exit_reason or NOBODY_LOOKED
        log.warning(
            "instance %s: %s",
            instance.instance,
            reason,
            extra={"deployment": key, "pool": instance.pool},
        )
        message = f"{instance.instance} of pool {instance.pool}: {reason}"
        await self._tell(key, "InstanceExited", message, type="Warning")

    async def _tell(
        self, key: str, reason: str, message: str, type: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        event = events.Event(
            app=Deployment.parse(key).app,
            deployment=key,
            component=self.name,
            reason=reason,
            message=message,
            type=type,
        )
        async with self._redis.pipeline(transaction=False) as pipe:
            events.record(pipe, event)
            await pipe.execute()

    async def _see_to_packages(
        self, wanted: RegistryDoc, fleet: Fleet, refused: Container[str]
    ) -> dict[str, Refusal]:
        """Have the wanted revisions' packages installed; returns what was newly refused."""
        serving = {held.instance.spec for held in fleet.held.values() if held.state == "ready"}
        fleet.survey = await self._environments.survey(wanted, refused, serving)
        newly = {
            commit: Refusal("DependenciesNotInstalled", message)
            for commit, message in fleet.survey.refused.items()
        }
        for revision in wanted.revisions:
            if revision.commit in newly:
                await refuse(self._redis, wanted.deployment, revision, newly[revision.commit])
        return newly

    async def _start_missing(self, wanted: RegistryDoc, fleet: Fleet, wants: list[Want]) -> list[Retry]:
        """Start what lacks, all pools at once. Returns why some could not be started."""
        failures = []
        starting = []
        for want in wants:
            if want.spec not in fleet.survey.packages:
                continue  # It is started as soon as its packages are there.
            crashes = fleet.crashes.get((want.pool, False), Crashes())
            missing = want.count - len(fleet.serving(want.pool, want.spec))
            if missing > 0 and crashes.pause:
                why = fleet.exits.get(want.pool, NOBODY_LOOKED)
                message = f"instances of pool {want.pool} die soon after their start ({why}); see `uhlp logs`"
                failures.append(
                    Retry("InstancesCrashing", message, after=crashes.pause, attempted=wanted.head)
                )
                continue
            starting += [
                asyncio.create_task(self._start(wanted, fleet, want), name=f"start:{want.pool}")
                for _ in range(missing if want.at_once else min(missing, 1))
            ]
        # Shielded: an instance that was created must be on our books, whoever loses interest meanwhile.
        shielded = (asyncio.shield(task) for task in starting)
        for result in await asyncio.gather(*shielded, return_exceptions=True):
            if isinstance(result, BackendError):
                failures.append(Retry("SandboxBackendFailed", str(result), attempted=wanted.head))
            elif isinstance(result, BaseException):
                raise result
        return failures

    async def _start(self, wanted: RegistryDoc, fleet: Fleet, want: Want, *, standby: bool = False) -> None:
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
            mounts=want.definition.mounts,
        )
        instance = await self._backend.ensure(spec)
        held = Held(
            instance,
            standby=standby,
            restarts=fleet.restarts.get(want.pool, 0),
            last_exit=fleet.exits.get(want.pool),
        )
        fleet.held[instance.instance] = held
        self._watch_exit(held)
        context = {"deployment": wanted.deployment, "pool": want.pool}
        log.info("started %s", instance.instance, extra=context)

    async def _become_ready(self, wanted: RegistryDoc, fleet: Fleet) -> list[Retry]:
        """Wait for what is starting; remove what does not come up, and return why it does not."""
        starting = fleet.starting()
        results = await asyncio.gather(*map(become_ready, starting), return_exceptions=True)
        failures = []
        for held, result in zip(starting, results, strict=True):
            if isinstance(result, Retry):
                await self._backend.remove(held.instance, grace=0)
                failures.append(Retry(result.reason, str(result), attempted=wanted.head))
            elif isinstance(result, BaseException):
                raise result
        return failures

    async def _load_revisions(
        self, wanted: RegistryDoc, fleet: Fleet, refused: Container[str]
    ) -> dict[str, Refusal]:
        """Load every wanted revision into the instances that can serve it; returns what was newly refused.

        The older revision comes first: it is what serves until the newer one is ready.
        """
        newly: dict[str, Refusal] = {}
        for revision in reversed(wanted.revisions):
            if revision.commit in refused:
                continue
            loading = [
                prepare(held, revision.snapshot)
                for name in revision.snapshot.pools
                for held in fleet.serving(name, revision.snapshot.pool_spec(name))
            ]
            for result in await asyncio.gather(*loading, return_exceptions=True):
                if isinstance(result, RevisionRefused):
                    newly[revision.commit] = Refusal("HandlersNotLoadable", str(result))
                elif isinstance(result, BaseException):
                    raise result
            if revision.commit in newly:
                await refuse(self._redis, wanted.deployment, revision, newly[revision.commit])
        return newly

    def _supply_standby(
        self, wanted: RegistryDoc, revision: Revision, fleet: Fleet, wants: list[Want]
    ) -> float | None:
        """Start and load those that should stand by, beside the loop: nobody waits for them.

        Returns the pause before one may be started again in a pool where they do not come up.
        """
        lacking = [
            (want, fleet.crashes.get((want.pool, True), Crashes()).pause)
            for want in wants
            if want.spec in fleet.survey.packages and fleet.lacks_standby(want, revision.tree)
        ]
        able = [want for want, pause in lacking if not pause]
        if able and not fleet.supplying:
            fleet.supplying = True
            self._in_background(self._supply(wanted, revision, fleet, able), f"standby:{wanted.deployment}")
        return min((pause for _, pause in lacking if pause), default=None)

    async def _supply(self, wanted: RegistryDoc, revision: Revision, fleet: Fleet, wants: list[Want]) -> None:
        try:
            for want in wants:
                missing = want.standby - len(fleet.standing_by(want.pool, want.spec))
                for _ in range(missing):
                    await self._start(wanted, fleet, want, standby=True)
                for held in fleet.standing_by(want.pool, want.spec):
                    await self._load_standby(wanted, revision, held)
        except (BackendError, *UNAVAILABLE) as error:
            log.warning("nothing stands by: %s", error, extra={"deployment": wanted.deployment})
            fleet.crashes.setdefault((want.pool, True), Crashes()).note(lived=0)
        finally:
            fleet.supplying = False
        self.enqueue(wanted.deployment)

    async def _load_standby(self, wanted: RegistryDoc, revision: Revision, held: Held) -> None:
        try:
            if held.state == "starting":
                await become_ready(held)
            await prepare(held, revision.snapshot)
        except RevisionRefused as refusal:
            unloadable = Refusal("HandlersNotLoadable", str(refusal))
            await refuse(self._redis, wanted.deployment, revision, unloadable)
        except Retry as failure:
            context = {"deployment": wanted.deployment, "pool": held.instance.pool}
            log.warning("%s cannot stand by: %s", held.instance.instance, failure, extra=context)
            # Its end counts as a crash, so the next one may have to wait.
            await self._backend.remove(held.instance, grace=0)

    async def _remove_drained(self, fleet: Fleet, routes: RoutesDoc | None) -> None:
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

    async def _remove(self, fleet: Fleet, held: Held) -> None:
        """Runs beside the loop: an instance may take long to finish its last requests."""
        instance = held.instance
        context = {"deployment": instance.deployment, "pool": instance.pool}
        try:
            await self._backend.remove(instance, grace=DRAIN_SECONDS)
        except BackendError as error:
            log.warning("%s is not removed yet: %s", instance.instance, error, extra=context)
            held.removing = False  # It is draining still, so the next run tries again.
            return
        fleet.held.pop(instance.instance, None)
        log.info("removed %s", instance.instance, extra=context)
        if held.died:
            usage.count_exit(instance)
            with contextlib.suppress(*UNAVAILABLE):
                await self._tell_exit(instance)
        self.enqueue(instance.deployment)

    async def _publish(self, key: str, fleet: Fleet) -> None:
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

    def held(self) -> list[Held]:
        """Every instance of every deployment."""
        return [held for fleet in self._fleets.values() for held in fleet.held.values()]

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
        for held in [held for held in self.held() if held.state == "ready"]:
            held.missed = 0 if await is_healthy(held) else held.missed + 1
            if held.missed >= MAX_MISSED_HEALTH_CHECKS:
                context = {"deployment": held.instance.deployment, "pool": held.instance.pool}
                log.error("instance %s does not answer; replacing it", held.instance.instance, extra=context)
                held.instance.exit_reason = f"unanswering: missed {held.missed} health checks"
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


def _retire(surplus: Iterable[Held]) -> None:
    """Take instances out of use: the routes drop them, and then they are removed."""
    for held in surplus:
        held.state = "draining"


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)
