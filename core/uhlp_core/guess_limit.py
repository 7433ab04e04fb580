"""Makes guessing secrets slow, however many connections a guesser opens. Knows no HTTP."""

import asyncio

FAILURE_SECONDS = 0.5
"""A wrong secret's answer waits this long …"""
MAX_FAILURES_WAITING = 8
"""… and only so many wait at once: together at most 16 guesses a second."""


class GuessLimit:
    """One door's wrong guesses."""

    def __init__(self) -> None:
        self._waiting = asyncio.Semaphore(MAX_FAILURES_WAITING)

    async def delay(self, spent: float = 0.0) -> bool:
        """Wait before a wrong guess is answered; at once False if too many wait already.

        `spent` seconds have passed since it came: how long it was looked at tells the guesser nothing.
        """
        if self._waiting.locked():
            return False
        async with self._waiting:
            await asyncio.sleep(max(0.0, FAILURE_SECONDS - spent))
        return True
