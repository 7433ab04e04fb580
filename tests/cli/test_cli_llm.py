"""`uhlp llm usage`: what an app used, by day and by part, in tokens and money."""

from datetime import UTC, datetime

import redis

from cli.support import Clone, Uhlp
from uhlp_core import keys


def count(store: redis.Redis, scope: str, **counters: int) -> None:
    day = datetime.now(UTC).date().isoformat()
    for name, amount in counters.items():
        store.hincrby(keys.llm_usage("hello", day), f"{scope}|{name}", amount)


def test_use_is_told_by_day_and_part(uhlp: Uhlp, hello: Clone, store: redis.Redis) -> None:
    count(store, "app|", calls=2, attempts=3, failures=1, inputTokens=30, outputTokens=12, nanos=1_500_000)
    count(store, "model|main/strange|model", calls=1, attempts=1, scripted=1, inputTokens=5, unpriced=1)
    app, model = uhlp.json("llm", "usage", "hello")["usage"]
    assert app.pop("day") == model.pop("day")
    nothing = {"cached": 0, "failures": 0, "outputTokens": 0}
    assert app == {
        "kind": "app",
        "name": "",
        "calls": 2,
        "cached": 0,
        "attempts": 3,
        "failures": 1,
        "scripted": 0,
        "inputTokens": 30,
        "outputTokens": 12,
        "costUsd": 0.0015,
    }
    assert model == {
        **nothing,
        "kind": "model",
        "name": "main/strange|model",
        "calls": 1,
        "attempts": 1,
        "scripted": 1,
        "inputTokens": 5,
        "costUsd": None,
    }
    lines = uhlp("llm", "usage", "hello", "--days", "2").output.splitlines()
    assert [line.split("\t")[1:] for line in lines] == [
        ["app", "2", "0", "3", "1", "0", "30", "12", "0.001500"],
        ["model main/strange|model", "1", "0", "1", "0", "1", "5", "0", "unknown"],
    ]


def test_an_app_that_called_nothing(uhlp: Uhlp, hello: Clone, store: redis.Redis) -> None:
    assert uhlp.json("llm", "usage", "hello") == {"app": "hello", "usage": []}
    assert "there is no app" in uhlp("llm", "usage", "helo", code=1).output
