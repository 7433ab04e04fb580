"""Measures what a pool has to do, at no cost to a request that finds a lane free.

How many requests are under way is sampled by the timer that runs while there are any; only what waits or is
refused is counted one by one.
"""

from uhlp_state.documents import PoolLoad


class Meter:
    """The numbers of one pool over a short time, after which another meter takes its place."""

    __slots__ = ("_active", "_longest", "_samples", "_waited", "_waits", "rejected", "used")

    def __init__(self) -> None:
        self.used = False
        self.rejected = 0
        """Requests that waited in vain, or could not even wait."""
        self._samples = 0
        self._active = 0
        self._waits = 0
        self._waited = 0.0
        self._longest = 0.0

    def sample(self, active: int) -> None:
        """There were requests since the last sample; so many are under way now."""
        self.used = True
        self._samples += 1
        self._active += active

    def waited(self, seconds: float) -> None:
        """A request has stopped waiting, because it got a lane or gave up."""
        self.used = True
        self._waits += 1
        self._waited += seconds
        self._longest = max(self._longest, seconds)

    def total(self, active: int, waiting: int) -> PoolLoad:
        """The numbers, with what is under way and waits at the end."""
        return PoolLoad(
            used=bool(self.used or active or waiting or self.rejected),
            active=round((self._active + active) / (self._samples + 1), 3),
            waiting=waiting,
            waits=self._waits,
            average_wait=round(self._waited / self._waits, 4) if self._waits else 0.0,
            longest_wait=round(self._longest, 4),
            rejected=self.rejected,
        )
