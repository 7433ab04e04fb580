"""The loop: one run at a time per key, keys that merge, backoff, pre-emption, and what it reports."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from support.waiting import eventually
from uhlp_core import events, keys, store
from uhlp_core.store import Store
from uhlp_reconcilers.loop import Loop
from uhlp_reconcilers.outcome import Done, Gone, Outcome, Retry, Stalled, Waiting

Work = Callable[[str, asyncio.Event], Awaitable[Outcome]]


class Scripted:
    """A reconciler whose work each test writes; remembers when it ran."""

    name = "scripted"

    def __init__(self, work: Work) -> None:
        self._work = work
        self.runs: list[str] = []
        self.running: dict[str, int] = {}
        self.most_at_once = 0

    async def reconcile(self, key: str, pressure: asyncio.Event) -> Outcome:
        self.runs.append(key)
        self.running[key] = self.running.get(key, 0) + 1
        self.most_at_once = max(self.most_at_once, self.running[key])
        try:
            return await self._work(key, pressure)
        finally:
            self.running[key] -= 1


@pytest.fixture
async def closing():
    loops: list[Loop] = []
    yield loops
    for loop in loops:
        await loop.close()


async def _report(redis: Store, key: str) -> dict[str, object]:
    found = await store.read_hash(redis, keys.status(key))
    return found.get("scripted", {})


async def test_done_becomes_a_report_and_one_event(redis: Store, closing: list[Loop]) -> None:
    async def work(key: str, pressure: asyncio.Event) -> Outcome:
        return Done("Live", "here", attempted="c1", applied="c1")

    loop = Loop(Scripted(work), redis)
    closing.append(loop)
    for _ in range(3):
        loop.enqueue("app")
        await eventually(lambda: _report(redis, "app"), "the report is written")
    report = await _report(redis, "app")
    assert {name: report[name] for name in ("phase", "reason", "message", "attempted", "applied")} == {
        "phase": "ready",
        "reason": "Live",
        "message": "here",
        "attempted": "c1",
        "applied": "c1",
    }
    told = [(event.reason, event.type) for _, event in await events.history(redis, "app")]
    assert told == [("Live", "Normal")]


async def test_keys_merge_while_they_wait_and_never_run_twice_at_once(
    redis: Store, closing: list[Loop]
) -> None:
    gate = asyncio.Event()

    async def work(key: str, pressure: asyncio.Event) -> Outcome:
        await gate.wait()
        return Done()

    reconciler = Scripted(work)
    loop = Loop(reconciler, redis)
    closing.append(loop)
    for _ in range(10):
        loop.enqueue("one")
        loop.enqueue("two")
    await eventually(lambda: len(reconciler.runs) == 2, "both keys run side by side")
    for _ in range(10):
        loop.enqueue("one")
    gate.set()
    await eventually(lambda: reconciler.runs.count("one") == 2, "the nudges meanwhile became one more run")
    await eventually(lambda: not any(reconciler.running.values()), "all is quiet")
    assert sorted(reconciler.runs) == ["one", "one", "two"]
    assert reconciler.most_at_once == 1


async def test_failure_backs_off_and_a_nudge_ends_the_pause(redis: Store, closing: list[Loop]) -> None:
    fail = True

    async def work(key: str, pressure: asyncio.Event) -> Outcome:
        if fail:
            raise Retry("NotYet", "the far side is away", after=3600, attempted="c1")
        return Done("Live")

    loop = Loop(Scripted(work), redis)
    closing.append(loop)
    loop.enqueue("app")
    report = await eventually(lambda: _report(redis, "app"), "the failure is reported")
    assert (report["phase"], report["reason"]) == ("reconciling", "NotYet")
    assert float(str(report["next_retry"])) > float(str(report["at"])) + 3000
    fail = False
    loop.enqueue("app")

    async def live() -> bool:
        return (await _report(redis, "app"))["reason"] == "Live"

    await eventually(live, "the nudge ended the pause of an hour")


async def test_a_bug_is_reported_and_retried(redis: Store, closing: list[Loop]) -> None:
    reconciler: Scripted

    async def work(key: str, pressure: asyncio.Event) -> Outcome:
        if len(reconciler.runs) < 3:
            raise ZeroDivisionError("oops")
        return Done("Live")

    reconciler = Scripted(work)
    loop = Loop(reconciler, redis)
    closing.append(loop)
    loop.enqueue("app")

    async def live() -> bool:
        return (await _report(redis, "app")).get("reason") == "Live"

    await eventually(live, "the third try works")
    assert len(reconciler.runs) == 3
    told = [event.reason for _, event in await events.history(redis, "app")]
    assert told == ["InternalError", "Live"]


async def test_stalled_waits_for_the_next_nudge(redis: Store, closing: list[Loop]) -> None:
    async def work(key: str, pressure: asyncio.Event) -> Outcome:
        raise Stalled("InvalidState", "line 3", attempted="c2", applied="c1")

    reconciler = Scripted(work)
    loop = Loop(reconciler, redis)
    closing.append(loop)
    loop.enqueue("app")
    report = await eventually(lambda: _report(redis, "app"), "the stall is reported")
    assert (report["phase"], report["attempted"], report["applied"]) == ("stalled", "c2", "c1")
    await eventually(lambda: loop.idle, "nothing is planned")
    assert reconciler.runs == ["app"]


async def test_pressure_reaches_a_run_that_is_under_way(redis: Store, closing: list[Loop]) -> None:
    async def work(key: str, pressure: asyncio.Event) -> Outcome:
        if len(reconciler.runs) == 1:
            await pressure.wait()
            return Waiting("Preempted", "a newer commit came")
        return Done("Live", attempted="c2")

    reconciler = Scripted(work)
    loop = Loop(reconciler, redis)
    closing.append(loop)
    loop.enqueue("app")
    await eventually(lambda: reconciler.runs == ["app"], "the first run waits")
    loop.enqueue("app")

    async def live() -> bool:
        return (await _report(redis, "app")).get("attempted") == "c2"

    await eventually(live, "the newer commit is reached")


async def test_gone_removes_the_report(redis: Store, closing: list[Loop]) -> None:
    gone = False

    async def work(key: str, pressure: asyncio.Event) -> Outcome:
        return Gone() if gone else Done()

    loop = Loop(Scripted(work), redis)
    closing.append(loop)
    loop.enqueue("app")
    await eventually(lambda: _report(redis, "app"), "the report is written")
    gone = True
    loop.enqueue("app")

    async def removed() -> bool:
        return not await redis.exists(keys.status("app"))

    await eventually(removed, "the report is gone")
    assert loop.known() == []


async def test_a_restarted_daemon_tells_nothing_anew(redis: Store, closing: list[Loop]) -> None:
    async def work(key: str, pressure: asyncio.Event) -> Outcome:
        return Done("Live", attempted="c1", applied="c1")

    for _ in range(2):
        reconciler = Scripted(work)
        loop = Loop(reconciler, redis)
        closing.append(loop)
        await loop.resume(["app"])
        loop.enqueue("app")
        await eventually(lambda loop=loop: loop.idle, "it has run")
    assert len(await events.history(redis, "app")) == 1
