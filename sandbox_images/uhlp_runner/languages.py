"""What differs from one language of handlers to the next, and how a revision's handlers are first imported.

`zygotes.Python` and `nodes.Node` are the two. Everything else (doors, limits, output, timeouts, ends) is one.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from . import zygote
from .seat import Seat
from .slot import Slot


class ImportFailed(Exception):
    """A revision's handlers cannot be imported. `problems` is what `POST /prepare` answers."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(problems[0]["message"])
        self.problems = problems


class ParentLost(Exception):
    """What starts the handlers' processes has ended."""


class Parent(Protocol):
    """Where the processes come from that serve one request each, of one tree."""

    active: int
    """Requests whose processes have not all ended."""
    retired: bool
    """Whether it is to be closed once it has none."""

    async def report(self) -> list[dict[str, Any]]:
        """Import the handlers; what is wrong with them. Raises ParentLost."""
        ...

    async def start(self) -> Seat:
        """A process that waits for its request. Raises ParentLost, Failure."""
        ...

    def frame(self, request: dict[str, Any]) -> bytes:
        """The request as its process reads it from its channel."""
        ...

    async def reap(self, pid: int) -> int:
        """The wait status of a process that has ended. Raises ParentLost."""
        ...

    def close(self) -> None:
        """End all that it keeps warm."""
        ...


class Language(Protocol):
    """Handlers of one language, for one instance."""

    is_interruptible: bool
    """Whether a handler can be stopped without ending its process."""

    def parent(self, tree: str, components: Sequence[dict[str, Any]], fresh: bool) -> Parent:
        """Where the processes for `tree` come from. With `fresh` none has imported anything beforehand."""
        ...

    def work(self, slot: Slot) -> NoReturn:
        """Be a persistent worker, in a process that `children.start` made."""
        ...


async def hatch(
    language: Language, tree: str, components: Sequence[dict[str, Any]], fresh: bool, timeout_ms: float
) -> Parent:
    """A parent that has imported the handlers of `tree`. Raises ImportFailed, also where importing hangs."""
    candidate = language.parent(tree, components, fresh)
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            problems = await candidate.report()
    except TimeoutError:
        seconds = f"{timeout_ms / 1000:g} s"
        why = f"importing the handlers took longer than {seconds}; do less when a module is imported"
        problems = _all_failed(components, why)
    except ParentLost:
        why = "importing the handlers ended the process (an exit, a signal, or too much memory)"
        problems = _all_failed(components, why)
    if problems:
        candidate.close()
        raise ImportFailed(problems)
    return candidate


def _all_failed(components: Sequence[dict[str, Any]], why: str) -> list[dict[str, Any]]:
    # With no component known it is the start as such that failed, which must not pass for success.
    known = components or [{"componentId": None, "script": None}]
    return [zygote.problem(component, None, why) for component in known]
