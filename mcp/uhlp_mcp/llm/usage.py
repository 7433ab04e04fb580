"""Reads what apps have used: the ledger's counters by day, as people and programs want them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from uhlp_core import keys
from uhlp_core.store import Store
from uhlp_mcp.llm.prices import dollars


@dataclass(frozen=True, slots=True)
class Use:
    """What one scope used on one day."""

    day: str
    """In UTC."""
    kind: str
    """`app`, `component`, `user` or `model`."""
    name: str
    """Empty for the app."""
    counters: dict[str, int]

    @property
    def cost(self) -> float | None:
        """US dollars; None if an attempt's price is unknown."""
        return None if self.counters.get("unpriced") else dollars(self.counters.get("nanos", 0))

    def to_json(self) -> dict[str, Any]:
        """Every counter that people are told, 0 where nothing was counted."""
        told = ("calls", "cached", "attempts", "failures", "scripted", "inputTokens", "outputTokens")
        return {
            "day": self.day,
            "kind": self.kind,
            "name": self.name,
            **{counter: self.counters.get(counter, 0) for counter in told},
            "costUsd": self.cost,
        }


async def read_usage(redis: Store, app: str, days: int) -> list[Use]:
    """What an app used in the last days, today among them: newest first, the app before its parts."""
    today = datetime.now(UTC).date()
    wanted = [today - timedelta(days=past) for past in range(days)]
    async with redis.pipeline(transaction=False) as pipe:
        for day in wanted:
            pipe.hgetall(keys.llm_usage(app, day.isoformat()))
        found = await pipe.execute()
    return [use for day, counters in zip(wanted, found, strict=True) for use in _of_day(day, counters)]


def _of_day(day: date, counters: dict[bytes, bytes]) -> list[Use]:
    scopes: dict[tuple[str, str], dict[str, int]] = {}
    for field, value in counters.items():
        scope, _, measure = field.decode().rpartition("|")
        kind, _, name = scope.partition("|")
        scopes.setdefault((kind, name), {})[measure] = int(value)
    return [Use(day.isoformat(), kind, name, scopes[kind, name]) for kind, name in sorted(scopes)]
