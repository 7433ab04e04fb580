"""How much memory the messages of one app take at a time: from before they are read until they are answered.

Counts what a message becomes when it is parsed, which is many times its bytes where it is made for that.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

MAX_OF_APP = 32 * 1024 * 1024
"""Of the weights of an app's messages: seven of the largest, and a small part of what the daemon may have."""

SMALL_BYTES = 4096
"""Messages up to this size are not counted: the bounds on connections bound them, and most are so small."""

CONTAINER_BYTES = 64
"""For a list or an object of a message, of which two bytes make one: the smallest takes this much."""


class TooMuchAtOnce(Exception):
    """Messages of the app that are under way take all that it may take."""


def weight(body: bytes) -> int:
    """Bytes that a message counts for.

    Brackets in texts count as well, since looking for where texts end takes longer than parsing: a text of
    2 MiB may have one in four of its characters.
    """
    return len(body) + CONTAINER_BYTES * (body.count(b"[") + body.count(b"{"))


class MessageMemory:
    """What the messages of all apps hold."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    @contextmanager
    def share(self, app: str) -> "Iterator[Share]":
        """What one message holds, and gives back at the end."""
        share = Share(self._held, app)
        try:
            yield share
        finally:
            share.give_back()


class Share:
    """Of one message."""

    def __init__(self, held: Counter[str], app: str) -> None:
        self._held = held
        self._app = app
        self._size = 0

    def hold(self, size: int) -> None:
        """Hold this many bytes from now on, in place of those before. Raises TooMuchAtOnce."""
        others = self._held[self._app] - self._size
        if others + size > MAX_OF_APP:
            raise TooMuchAtOnce
        self._held[self._app] = others + size
        self._size = size

    def give_back(self) -> None:
        self._held[self._app] -= self._size
        if not self._held[self._app]:
            del self._held[self._app]
