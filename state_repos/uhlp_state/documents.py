"""The Redis documents that daemons hand to each other; docs/architecture.md says who writes which.

All are plain JSON with camelCase keys. They are caches: every one is rebuilt from Git and from what runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from uhlp_state.model import HandlerType
from uhlp_state.snapshot import AppSnapshot

LOAD_SECONDS = 10.0
"""How long a gateway's account of its load counts: it writes one each second while there is traffic, and a
last one when that ends, so an older one belongs to a gateway that is gone."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit that is wanted, with everything that was read from it."""

    commit: str
    tree: str
    snapshot: AppSnapshot

    def to_json(self) -> dict[str, Any]:
        return {"commit": self.commit, "tree": self.tree, "snapshot": self.snapshot.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(document["commit"], document["tree"], AppSnapshot.from_json(document["snapshot"]))


@dataclass(frozen=True, slots=True)
class RegistryDoc:
    """What Git wants served for one deployment."""

    deployment: str
    app: str
    branch: str
    head: str
    """The branch's newest commit, valid or not."""
    suspended: bool
    on_demand: bool
    """Previews: instances run only while somebody asks for them."""
    revisions: tuple[Revision, ...]
    """Newest first: the head if it is valid, then the last good revision."""
    forbidden: bool = False
    """No revision is left, since the last good one mounts what the platform allows no more: it must end."""

    def to_json(self) -> dict[str, Any]:
        return {
            "deployment": self.deployment,
            "app": self.app,
            "branch": self.branch,
            "head": self.head,
            "suspended": self.suspended,
            "onDemand": self.on_demand,
            "revisions": [revision.to_json() for revision in self.revisions],
            "forbidden": self.forbidden,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            deployment=document["deployment"],
            app=document["app"],
            branch=document["branch"],
            head=document["head"],
            suspended=document["suspended"],
            on_demand=document["onDemand"],
            revisions=tuple(Revision.from_json(item) for item in document["revisions"]),
            forbidden=document.get("forbidden", False),
        )


@dataclass(frozen=True, slots=True)
class Lane:
    """One socket of an instance that takes requests."""

    socket: str
    capacity: int
    """How many requests it takes at once."""
    serves: HandlerType = HandlerType.JIT
    """The components whose requests it takes."""

    def to_json(self) -> dict[str, Any]:
        return {"socket": self.socket, "capacity": self.capacity, "serves": self.serves.value}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(document["socket"], document["capacity"], HandlerType(document["serves"]))


@dataclass(frozen=True, slots=True)
class InstanceDoc:
    """One running sandbox."""

    instance: str
    deployment: str
    pool: str
    spec: str
    """`AppSnapshot.pool_spec()` of the pool that it was made from."""
    backend: str
    state: Literal["starting", "ready", "standby", "draining"]
    """`standby`: up, or on its way, but no request is sent to it until it takes a place among the ready."""
    dir: str
    lanes: tuple[Lane, ...]
    prepared: tuple[str, ...]
    """Trees whose handlers it has imported, newest last."""
    pid: int | None
    started_at: float
    restarts: int
    """Instances of its pool that ended before it though they were wanted, since the daemon runs."""
    container: str | None = None
    """What its container is called in the engine, where it is one."""
    is_outdated: bool = False
    """Whether its image has the runner of another version than the daemon's."""
    last_exit: str | None = None
    """Why the last of those ended."""

    def to_json(self) -> dict[str, Any]:
        return {
            "instance": self.instance,
            "deployment": self.deployment,
            "pool": self.pool,
            "spec": self.spec,
            "backend": self.backend,
            "state": self.state,
            "dir": self.dir,
            "lanes": [lane.to_json() for lane in self.lanes],
            "prepared": list(self.prepared),
            "pid": self.pid,
            "startedAt": self.started_at,
            "restarts": self.restarts,
            "container": self.container,
            "outdated": self.is_outdated,
            "lastExit": self.last_exit,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            instance=document["instance"],
            deployment=document["deployment"],
            pool=document["pool"],
            spec=document["spec"],
            backend=document["backend"],
            state=document["state"],
            dir=document["dir"],
            lanes=tuple(Lane.from_json(lane) for lane in document["lanes"]),
            prepared=tuple(document["prepared"]),
            pid=document["pid"],
            started_at=document["startedAt"],
            restarts=document["restarts"],
            container=document.get("container"),
            is_outdated=document.get("outdated", False),
            last_exit=document.get("lastExit"),
        )

    def serves(self, spec: str, tree: str) -> bool:
        """Whether a request for this tree may be sent here now."""
        return self.state == "ready" and self.spec == spec and tree in self.prepared


@dataclass(frozen=True, slots=True)
class UsageDoc:
    """What one running sandbox used when it was last looked at."""

    instance: str
    memory_bytes: int
    memory_limit_bytes: int | None
    """Of the instance as a whole; None if only its processes have limits."""
    cpu_seconds: float
    """Since it was started."""
    cpu_percent: float | None
    """Of one core, between the last two looks; None at the first."""
    processes: int
    at: float
    """When that was, in seconds since the epoch."""

    def to_json(self) -> dict[str, Any]:
        return {
            "instance": self.instance,
            "memoryBytes": self.memory_bytes,
            "memoryLimitBytes": self.memory_limit_bytes,
            "cpuSeconds": round(self.cpu_seconds, 3),
            "cpuPercent": None if self.cpu_percent is None else round(self.cpu_percent, 1),
            "processes": self.processes,
            "at": self.at,
        }


@dataclass(frozen=True, slots=True)
class RoutesDoc:
    """What the gateways serve for one deployment."""

    deployment: str
    app: str
    generation: int
    """Grows with every change; a gateway acknowledges the one that it has in force."""
    suspended: bool
    on_demand: bool
    snapshot: AppSnapshot
    pools: Mapping[str, tuple[tuple[str, Lane], ...]]
    """By pool: (instance, lane) for every lane that takes requests of this revision."""

    def to_json(self) -> dict[str, Any]:
        return {
            "deployment": self.deployment,
            "app": self.app,
            "commit": self.snapshot.commit,
            "tree": self.snapshot.tree,
            "generation": self.generation,
            "suspended": self.suspended,
            "onDemand": self.on_demand,
            "snapshot": self.snapshot.to_json(),
            "pools": {
                pool: [{"instance": instance, **lane.to_json()} for instance, lane in lanes]
                for pool, lanes in self.pools.items()
            },
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            deployment=document["deployment"],
            app=document["app"],
            generation=document["generation"],
            suspended=document["suspended"],
            on_demand=document["onDemand"],
            snapshot=AppSnapshot.from_json(document["snapshot"]),
            pools={
                pool: tuple((lane["instance"], Lane.from_json(lane)) for lane in lanes)
                for pool, lanes in document["pools"].items()
            },
        )

    def says_the_same(self, other: "RoutesDoc | None") -> bool:
        """Whether nothing but the generation differs."""
        return other is not None and replace(self, generation=0) == replace(other, generation=0)

    def without_instances(self, generation: int) -> Self:
        """The same routes with nobody behind them."""
        return replace(self, generation=generation, pools=dict.fromkeys(self.pools, ()))

    @property
    def instances(self) -> frozenset[str]:
        return frozenset(instance for lanes in self.pools.values() for instance, _ in lanes)


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """What one gateway had of one pool since its last account of it."""

    used: bool
    """Whether there was any request at all."""
    active: float
    """Requests under way in instances at once, on average."""
    waiting: int
    """Requests that wait for a lane at the end of the time."""
    waits: int
    """Requests that waited for a lane and do not any more."""
    average_wait: float
    """Seconds that those waited."""
    longest_wait: float
    """Seconds."""
    rejected: int
    """Requests refused because the queue was full, or they had waited too long."""

    def plus(self, other: "PoolLoad") -> "PoolLoad":
        """The load of both together."""
        waits = self.waits + other.waits
        waited = self.waits * self.average_wait + other.waits * other.average_wait
        return PoolLoad(
            used=self.used or other.used,
            active=self.active + other.active,
            waiting=self.waiting + other.waiting,
            waits=waits,
            average_wait=waited / waits if waits else 0.0,
            longest_wait=max(self.longest_wait, other.longest_wait),
            rejected=self.rejected + other.rejected,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "used": self.used,
            "active": self.active,
            "waiting": self.waiting,
            "waits": self.waits,
            "averageWait": self.average_wait,
            "longestWait": self.longest_wait,
            "rejected": self.rejected,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            used=document["used"],
            active=document["active"],
            waiting=document["waiting"],
            waits=document["waits"],
            average_wait=document["averageWait"],
            longest_wait=document["longestWait"],
            rejected=document["rejected"],
        )


@dataclass(frozen=True, slots=True)
class LoadDoc:
    """What one gateway has to do for the pools of one deployment that can grow or shrink."""

    at: float
    """Unix time in seconds; the document counts for LOAD_SECONDS."""
    pools: Mapping[str, PoolLoad]

    def to_json(self) -> dict[str, Any]:
        return {"at": self.at, "pools": {name: load.to_json() for name, load in self.pools.items()}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        pools = {name: PoolLoad.from_json(load) for name, load in document["pools"].items()}
        return cls(document["at"], pools)
