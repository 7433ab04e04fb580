"""The Redis documents that daemons hand to each other; docs/architecture.md says who writes which.

All are plain JSON with camelCase keys. They are caches: every one is rebuilt from Git and from what runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from uhlp_state.model import HandlerType
from uhlp_state.snapshot import AppSnapshot


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

    def to_json(self) -> dict[str, Any]:
        return {
            "deployment": self.deployment,
            "app": self.app,
            "branch": self.branch,
            "head": self.head,
            "suspended": self.suspended,
            "onDemand": self.on_demand,
            "revisions": [revision.to_json() for revision in self.revisions],
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
    """`PoolDefinition.spec_hash()` of the pool that it was made from."""
    backend: str
    state: Literal["starting", "ready", "draining"]
    dir: str
    lanes: tuple[Lane, ...]
    prepared: tuple[str, ...]
    """Trees whose handlers it has imported, newest last."""
    pid: int | None
    started_at: float
    restarts: int

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
        )

    def serves(self, spec: str, tree: str) -> bool:
        """Whether a request for this tree may be sent here now."""
        return self.state == "ready" and self.spec == spec and tree in self.prepared


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

    @property
    def instances(self) -> frozenset[str]:
        return frozenset(instance for lanes in self.pools.values() for instance, _ in lanes)
