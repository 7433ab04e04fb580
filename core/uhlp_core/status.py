"""Reports of the daemons about a deployment, and the conditions that a person reads from them.

Each reconciler writes one `Report` per deployment (its loop does it); `conditions` folds them into Ready,
Reconciling and Stalled, naming the attempted and the applied revision.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    READY = "ready"
    RECONCILING = "reconciling"
    STALLED = "stalled"


CHAIN = ("registry", "sandboxes", "routes")
"""A revision passes these daemons in this order; the first that is not ready explains the whole."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one daemon last found out about one deployment."""

    phase: Phase
    reason: str
    """One CamelCase word, stable, for programs."""
    message: str = ""
    attempted: str | None = None
    """The commit that the daemon last worked on."""
    applied: str | None = None
    """The commit that is in force as far as this daemon goes."""
    next_retry: float | None = None
    """Seconds since the epoch; None if nothing is planned."""
    at: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Report":
        return cls(**{**document, "phase": Phase(document["phase"])})

    def says_the_same(self, other: "Report | None") -> bool:
        """Whether nothing but the times differs: then it is neither written nor told again."""
        return other is not None and (
            self.phase,
            self.reason,
            self.message,
            self.attempted,
            self.applied,
        ) == (
            other.phase,
            other.reason,
            other.message,
            other.attempted,
            other.applied,
        )


@dataclass(frozen=True, slots=True)
class Conditions:
    """One deployment's state in one glance."""

    ready: bool
    """Something is being served."""
    reconciling: bool
    stalled: bool
    """The newest commit cannot be served as it is; it waits for another commit."""
    reason: str
    message: str
    attempted: str | None
    applied: str | None
    next_retry: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def conditions(reports: Mapping[str, Report]) -> Conditions:
    """Fold the daemons' reports. The first daemon in the chain that is not ready gives the reason."""
    routes = reports.get("routes")
    applied = routes.applied if routes else None
    attempted = next((reports[name].attempted for name in CHAIN if name in reports), None)
    blocking = next(
        (reports[name] for name in CHAIN if name in reports and reports[name].phase != Phase.READY), None
    )
    if blocking is None:
        complete = routes is not None
        done = routes or Report(Phase.RECONCILING, "Waiting", "no daemon has reported yet")
        return Conditions(
            ready=applied is not None,
            reconciling=not complete,
            stalled=False,
            reason=done.reason,
            message=done.message,
            attempted=attempted,
            applied=applied,
            next_retry=None,
        )
    return Conditions(
        ready=applied is not None,
        reconciling=blocking.phase == Phase.RECONCILING,
        stalled=blocking.phase == Phase.STALLED,
        reason=blocking.reason,
        message=blocking.message,
        attempted=attempted,
        applied=applied,
        next_retry=blocking.next_retry,
    )
