"""The event stream of each app: who did what, at which commit, and why. Capped, for people to read."""

import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson

from uhlp_core import keys
from uhlp_core.store import Store

MAX_EVENTS = 1000
"""Events kept per app; older ones are dropped by Redis (about a year of a quiet app's pushes)."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to an app."""

    app: str
    deployment: str
    component: str
    """The daemon that tells it."""
    reason: str
    message: str
    commit: str | None = None
    type: Literal["Normal", "Warning"] = "Normal"
    at: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def record(pipe: Any, event: Event) -> None:
    """Queue an event on a Redis pipeline."""
    pipe.xadd(
        keys.events(event.app), {"event": orjson.dumps(event.to_json())}, maxlen=MAX_EVENTS, approximate=True
    )


async def history(store: Store, app: str, count: int = 100) -> list[tuple[str, Event]]:
    """The newest `count` events with their stream ids, oldest first."""
    entries = await store.xrevrange(keys.events(app), count=count)
    return [(ident.decode(), _event(fields)) for ident, fields in reversed(entries)]


async def follow(store: Store, app: str, after: str = "$") -> AsyncIterator[Event]:
    """Every event from now on (or after a stream id), for ever."""
    while True:
        answer = await store.xread({keys.events(app): after}, block=5000)
        for _, entries in answer or ():
            for ident, fields in entries:
                after = ident
                yield _event(fields)


def _event(fields: dict[bytes, bytes]) -> Event:
    return Event(**orjson.loads(fields[b"event"]))
