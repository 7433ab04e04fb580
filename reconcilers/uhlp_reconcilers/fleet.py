"""The instances of one deployment, and which of them serve, stand by, or have to go.

Pure bookkeeping: starts, loads and removes nothing itself.
"""

import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from uhlp_reconcilers import scaling
from uhlp_reconcilers.environments.environments import Survey
from uhlp_reconcilers.instances import Held
from uhlp_reconcilers.scaling import Scale
from uhlp_state.documents import InstanceDoc, LoadDoc, RegistryDoc, Revision, RoutesDoc
from uhlp_state.model import PoolDefinition

SHORT_LIFE = 10.0
"""An instance that lived shorter than this counts as crashing; its successors start with growing pauses."""

MAX_CRASH_PAUSE = 30.0

MAX_REMOVED_SHARE = 0.5
"""Of a deployment's instances, the share that one look may take out of use (but at least one): whatever
mistake is made about what is wanted, the next look may find that it was one."""


@dataclass(slots=True)
class Crashes:
    """How often a pool's instances died young, and when the next may start."""

    count: int = 0
    not_before: float = 0.0

    def note(self, lived: float) -> None:
        """One has died after so many seconds."""
        if lived < SHORT_LIFE:
            self.count += 1
            self.not_before = time.monotonic() + min(MAX_CRASH_PAUSE, 0.1 * 2.0**self.count)
        else:
            self.count = 0

    @property
    def pause(self) -> float:
        """Seconds until the next may start."""
        return max(0.0, self.not_before - time.monotonic())


@dataclass(frozen=True, slots=True)
class Want:
    """So many instances of one pool definition."""

    pool: str
    definition: PoolDefinition
    spec: str
    count: int
    standby: int = 0
    at_once: bool = True
    """False while they replace others that still serve: then they start one after the other."""


@dataclass(slots=True)
class Fleet:
    """The instances of one deployment."""

    held: dict[str, Held] = field(default_factory=dict)
    crashes: dict[tuple[str, bool], Crashes] = field(default_factory=dict)
    """By pool, and whether they stood by: trouble with those must not hold up the ones that serve."""
    restarts: dict[str, int] = field(default_factory=dict)
    exits: dict[str, str] = field(default_factory=dict)
    """By pool, why the last one ended that was wanted."""
    published: dict[str, bytes] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    """By pool."""
    loads: dict[str, LoadDoc] = field(default_factory=dict)
    """By gateway."""
    survey: Survey = field(default_factory=Survey)
    """The packages of the wanted revisions, as of this run."""
    supplying: bool = False
    """Whether instances that stand by are being started or loaded right now."""

    def starting(self) -> list[Held]:
        return [held for held in self.held.values() if held.state == "starting" and not held.standby]

    def serving(self, pool: str, spec: str) -> list[Held]:
        """Those of a spec that serve, or will once they are up; the oldest first."""
        return self._of(pool, spec, standby=False)

    def standing_by(self, pool: str, spec: str) -> list[Held]:
        """Those of a spec that stand by, or will once they are up; the oldest first."""
        return self._of(pool, spec, standby=True)

    def recall(self, documents: Mapping[str, InstanceDoc]) -> None:
        """Give adopted instances the parts they had, by what was last published of them."""
        for name, held in self.held.items():
            if document := documents.get(name):
                held.standby = document.state == "standby"
                if document.state == "draining":
                    held.state = "draining"
                elif held.standby and document.lanes:
                    # It was up: it may be needed before anybody finds the time to ask it again.
                    held.state = "ready"
                    held.lanes, held.prepared = document.lanes, document.prepared
        counts = Counter(
            (document.pool, document.spec)
            for document in documents.values()
            if document.state in ("starting", "ready")
        )
        for (pool, _), count in counts.items():
            # While a pool is replaced there are two of everything.
            before = self.scales.get(pool, Scale(0))
            self.scales[pool] = Scale(max(count, before.count))

    def rescale(self, revisions: Iterable[Revision], sleeps_after: float | None) -> float | None:
        """Decide anew how many instances each pool should have, by the newest revision that has it.

        Returns the seconds until that may change by itself; None if it cannot.
        """
        now = time.monotonic()
        looks = []
        newest: dict[str, tuple[PoolDefinition, str]] = {}
        for revision in revisions:
            for name, pool in revision.snapshot.pools.items():
                newest.setdefault(name, (pool, revision.snapshot.pool_spec(name)))
        for name, (pool, spec) in newest.items():
            bounds = scaling.bounds_of(pool, sleeps_after=sleeps_after)
            before = self.scales.get(name)
            if before is None:
                # Adopted without a word about their parts, or the very first: never fewer than there are.
                before = Scale(len(self.serving(name, spec)))
            scale = scaling.decide(before, scaling.load_of(name, self.loads.values()), bounds, now)
            self.scales[name] = scale
            looks.append(scaling.next_look(scale, bounds, now))
        return min((look for look in looks if look is not None), default=None)

    def wants(self, revisions: list[Revision], routes: RoutesDoc | None, *, preview: bool) -> list[Want]:
        """Instances wanted: the newest revision's pools, and the older ones' until the switch is done."""
        found: dict[tuple[str, str], Want] = {}
        served = routes.snapshot.commit if routes else None
        for revision in revisions:
            newest = revision is revisions[0]
            for name, pool in revision.snapshot.pools.items():
                spec = revision.snapshot.pool_spec(name)
                if (name, spec) in found:
                    continue
                count = self._count(name, pool, preview=preview)
                standby = scaling.standby_of(pool, count, preview=preview) if newest else 0
                found[name, spec] = Want(name, pool, spec, count, standby)
                if newest or revision.commit != served:
                    continue
                # Others serve this pool until the newest revision has as many.
                replacement = revisions[0].snapshot.pools.get(name)
                if replacement is not None:
                    serving = min(count, len(self.serving(name, spec)))
                    key = (name, revisions[0].snapshot.pool_spec(name))
                    found[key] = _replacing(found[key], serving, preview=preview)
        return list(found.values())

    def assign(self, wants: Iterable[Want]) -> bool:
        """Let those that stand by take the places that are free, and those too many stand by.

        Returns whether any took a place.
        """
        called = False
        for want in wants:
            serving = self.serving(want.pool, want.spec)
            standing_by = self.standing_by(want.pool, want.spec)
            free = max(0, want.count - len(serving))
            for held in [held for held in standing_by if held.state == "ready"][:free]:
                held.standby, called = False, True
            wanting = max(0, want.standby - len(standing_by))
            for held in [held for held in serving[want.count :] if held.state == "ready"][:wanting]:
                held.standby = True
        return called

    def lacks_standby(self, want: Want, tree: str) -> bool:
        """Whether fewer stand by, up and with this tree loaded, than should."""
        able = [held for held in self.standing_by(want.pool, want.spec) if tree in held.prepared]
        return len(able) < want.standby

    def surplus(self, wants: list[Want]) -> list[Held]:
        """Those to take out of use now: one of a pool at a time, and no more than MAX_REMOVED_SHARE.

        All of a pool that is gone: that was said by a commit that was understood, so it is no mistake.
        """
        live = [held for held in self.held.values() if held.state != "draining"]
        leaving = {held.instance.pool for held in self.held.values() if held.state == "draining"}
        kept = {
            held.instance.instance
            for want in wants
            for held in (
                *self.serving(want.pool, want.spec)[: want.count],
                *self.standing_by(want.pool, want.spec)[: want.standby],
            )
        }
        pools = {want.pool for want in wants}
        gone = [held for held in live if pools and held.instance.pool not in pools]
        spare: dict[str, Held] = {}
        for held in sorted(live, key=lambda held: held.instance.started_at):
            pool = held.instance.pool
            if held not in gone and pool not in leaving and held.instance.instance not in kept:
                spare[pool] = held  # The youngest goes first: it has the least to lose.
        return gone + list(spare.values())[: max(1, int(len(live) * MAX_REMOVED_SHARE))]

    def _count(self, name: str, pool: PoolDefinition, *, preview: bool) -> int:
        least = 0 if preview else pool.min_instances
        return min(max(self.scales.get(name, Scale(0)).count, least), pool.max_instances)

    def _of(self, pool: str, spec: str, *, standby: bool) -> list[Held]:
        found = [
            held
            for held in self.held.values()
            if (held.instance.pool, held.instance.spec) == (pool, spec)
            and held.standby == standby
            and held.state != "draining"
        ]
        return sorted(found, key=lambda held: held.instance.started_at)


def eligible_revisions(
    wanted: RegistryDoc, routes: RoutesDoc | None, refused: Container[str]
) -> list[Revision]:
    """The revisions that need instances, newest first: only the newest once the routes name it."""
    if wanted.suspended:
        return []
    revisions = [revision for revision in wanted.revisions if revision.commit not in refused]
    served = routes is not None and revisions and routes.snapshot.commit == revisions[0].commit
    return revisions[:1] if served else revisions


def _replacing(want: Want, serving: int, *, preview: bool) -> Want:
    """What is wanted of a pool while so many of another spec serve in its place."""
    if not serving:
        return want
    count = max(want.count, scaling.to_switch(want.definition, serving, preview=preview))
    return replace(want, count=count, standby=0, at_once=False)
