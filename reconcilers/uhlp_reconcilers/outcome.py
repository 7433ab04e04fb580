"""What one run of a reconciler can end with. The loop turns each into status, events and the next run."""

from dataclasses import dataclass

from uhlp_core.errors import UhlpError


@dataclass(frozen=True, slots=True)
class Done:
    """Actual equals desired."""

    reason: str = "InSync"
    message: str = ""
    attempted: str | None = None
    applied: str | None = None
    again_after: float | None = None
    """Seconds until something is known to change by itself (an expiry); None waits for a wake-up."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The gap is not closed yet and somebody else's wake-up will tell when to look again."""

    reason: str
    message: str
    attempted: str | None = None
    applied: str | None = None
    again_after: float | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """There is nothing left to reconcile under this key; its status is removed."""


Outcome = Done | Waiting | Gone


class Retry(UhlpError):
    """Something outside failed for now: try again, with growing pauses or after the time given."""

    def __init__(
        self, reason: str, message: str, *, after: float | None = None, attempted: str | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.after = after
        self.attempted = attempted


class Stalled(UhlpError):
    """This commit cannot be brought into force; only another commit helps.

    `again_after` are the seconds until what serves instead needs another look, if it does.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        attempted: str | None = None,
        applied: str | None = None,
        again_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.again_after = again_after
        self.reason = reason
        self.attempted = attempted
        self.applied = applied
