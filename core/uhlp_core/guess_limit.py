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

    async def delay(self) -> bool:
        """Wait before a wrong guess is answered; at once False if too many wait already."""
        if self._waiting.locked():
            return False
        async with self._waiting:
            await asyncio.sleep(FAILURE_SECONDS)
        return True
