"""How many instances a pool should have: from its measured load and a clock, and from nothing else.

More come at once and as many as the load needs; fewer come one at a time, each after a pause in which it was
never needed. In between lies a range of load in which nothing changes, so that no pool flaps.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from uhlp_state.documents import LOAD_SECONDS, LoadDoc
from uhlp_state.model import PoolDefinition

FULL = 0.85
"""Beyond this share of their capacity the instances are too few: a burst would have to wait."""

TARGET = 0.7
"""The share of their capacity that instances are meant to be busy with after more have come."""

ROOM = 0.5
"""An instance is not needed if the others would be at most this busy without it. Well below TARGET, so that
one that has just come is not found to be too many."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a pool has to do, over all gateways."""

    used: bool = False
    """Whether there was any request at all."""
    need: float = 0.0
    """Requests at once, on average; those that wait count as well."""
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between what the number of a pool's instances may move, and how fast it may fall."""

    least: int
    most: int
    capacity: int
    """Requests that one instance takes at once."""
    cool_off: float
    """Seconds that an instance must have been unneeded before it goes."""
    last_cool_off: float
    """The same for the very last one."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many instances a pool should have, and since when one of them has not been needed."""

    count: int
    quiet_since: float | None = None


def load_of(pool: str, documents: Iterable[LoadDoc]) -> Load:
    """The sum of what the gateways say about a pool."""
    found = [document.pools[pool] for document in documents if pool in document.pools]
    return Load(
        used=any(load.used for load in found),
        need=sum(load.active + load.waiting for load in found),
        rejected=sum(load.rejected for load in found),
    )


def newest_loads(known: Mapping[str, LoadDoc], told: Mapping[str, LoadDoc], now: float) -> dict[str, LoadDoc]:
    """The last word of each gateway, by gateway, as long as it counts; `now` is Unix time in seconds.

    What was known before stays in force if it is not told any more: Redis may have lost it.
    """
    return {name: load for name, load in {**known, **told}.items() if load.at > now - LOAD_SECONDS}


def bounds_of(pool: PoolDefinition, *, sleeps_after: float | None) -> Bounds:
    """The bounds of a pool; `sleeps_after` are the seconds after which a preview falls asleep."""
    cool_off = float(pool.scale_down_after_seconds)
    return Bounds(
        least=pool.min_instances if sleeps_after is None else 0,
        most=pool.max_instances,
        capacity=pool.concurrency,
        cool_off=cool_off,
        last_cool_off=cool_off if sleeps_after is None else sleeps_after,
    )


def decide(scale: Scale, load: Load, bounds: Bounds, now: float) -> Scale:
    """The next scale. `now` is any clock in seconds that never goes back."""
    count = min(max(scale.count, bounds.least), bounds.most)
    # How many refused requests there would have been at once is not known: room for one instance's worth.
    need = load.need + min(load.rejected, bounds.capacity)
    if need > FULL * count * bounds.capacity:
        return Scale(min(max(count, math.ceil(need / (TARGET * bounds.capacity))), bounds.most))
    needed = load.used if count == 1 else need > ROOM * (count - 1) * bounds.capacity
    if needed or count == bounds.least:
        return Scale(count)
    since = now if scale.quiet_since is None else scale.quiet_since
    if now >= since + cool_off(count, bounds):
        return Scale(count - 1, now)
    return Scale(count, since)


def next_look(scale: Scale, bounds: Bounds, now: float) -> float | None:
    """Seconds until the scale may change though nobody tells of another load; None if it cannot."""
    if scale.count <= bounds.least:
        return None
    if scale.quiet_since is None:
        return LOAD_SECONDS  # By then the word of a gateway that died does not count any more.
    return max(0.0, scale.quiet_since + cool_off(scale.count, bounds) - now)


def cool_off(count: int, bounds: Bounds) -> float:
    """Seconds that one of `count` instances must have been unneeded before it goes."""
    return bounds.last_cool_off if count == 1 else bounds.cool_off


def standby_of(pool: PoolDefinition, count: int, *, preview: bool) -> int:
    """How many instances stand by beside `count` that serve.

    Unless its definition says a number, a pool that may grow keeps one while it is awake, and one that never
    grows keeps none: an idle runner takes 30 MB and more. A preview keeps none at all.
    """
    if preview:
        return 0
    if pool.standby_instances is not None:
        return pool.standby_instances
    return 1 if 0 < count < pool.max_instances else 0


def to_switch(pool: PoolDefinition, routed: int, *, preview: bool) -> int:
    """Instances that a revision must have ready in a pool before it is served.

    As many as serve the revision in force (`routed`), within the new bounds: the load does not shrink because
    a revision is new.
    """
    least = 0 if preview else pool.min_instances
    return max(least, min(routed, pool.max_instances))
