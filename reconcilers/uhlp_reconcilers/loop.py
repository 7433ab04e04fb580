"""The control loop: the one place that knows queues, retries, backoff and status.

A reconciler compares desired with actual for one key (a deployment or an app) and closes the difference.
The loop runs one reconciliation at a time per key and many keys side by side; keys merge while they wait;
failures back off with jitter; a nudge ends any pause at once, so a new commit never waits for an old one's
retry. What a run ended with becomes the status report, events and metrics here and nowhere else.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Iterable
from typing import Protocol

import orjson
from prometheus_client import Counter, Histogram

from uhlp_core import events, keys, wake
from uhlp_core.daemon import cancel
from uhlp_core.ids import Deployment
from uhlp_core.status import Phase, Report
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_reconcilers.outcome import Done, Gone, Outcome, Retry, Stalled, Waiting

log = logging.getLogger(__name__)

FIRST_BACKOFF = 0.2
MAX_BACKOFF = 60.0
CONCURRENCY = 32
"""Reconciliations side by side; each mostly waits for Redis, a thread or a socket."""

RUNS = Counter("uhlp_reconcile_runs_total", "Reconciliations by daemon and result.", ["daemon", "result"])
SECONDS = Histogram("uhlp_reconcile_duration_seconds", "Time of one reconciliation.", ["daemon"])


class Reconciler(Protocol):
    """One daemon's work on one key."""

    name: str

    async def reconcile(self, key: str, pressure: asyncio.Event) -> Outcome:
        """Close the gap between desired and actual for `key`.

        `pressure` is set when the key was nudged again meanwhile: a long wait should give up and return.
        Raises Retry or Stalled; anything else counts as a bug and is retried with backoff.
        """
        ...


class _Stream:
    """One key's place in the loop."""

    __slots__ = ("attempted", "failures", "pressure", "task")

    def __init__(self) -> None:
        self.pressure = asyncio.Event()
        self.failures = 0
        self.attempted: str | None = None
        self.task: asyncio.Task[None] | None = None


class Loop:
    """Runs one reconciler over every key that is nudged."""

    def __init__(self, reconciler: Reconciler, store: Store) -> None:
        self._reconciler = reconciler
        self._store = store
        self._streams: dict[str, _Stream] = {}
        self._reports: dict[str, Report] = {}  # what Redis has
        self._logged: dict[str, Report] = {}  # what the log was told last
        self._slots = asyncio.Semaphore(CONCURRENCY)

    def enqueue(self, key: str) -> None:
        """Look at `key` soon; at once if it is pausing before a retry."""
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream()
        stream.pressure.set()
        if stream.task is None:
            stream.task = asyncio.create_task(self._work(key, stream), name=f"{self._reconciler.name}:{key}")

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing is planned."""
        return all(stream.task is None for stream in self._streams.values())

    def known(self) -> list[str]:
        """Keys that this loop has worked on and that may still need it, though nobody names them any more."""
        return list(self._logged)

    async def resume(self, deployments: Iterable[str]) -> None:
        """Remember what this daemon reported before it was restarted, so that only changes are told."""
        names = list(deployments)
        async with self._store.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hget(keys.status(name), self._reconciler.name)
            for name, raw in zip(names, await pipe.execute(), strict=True):
                if raw is not None:
                    self._reports[name] = self._logged[name] = Report.from_json(orjson.loads(raw))

    async def close(self) -> None:
        """Stop every run. Reconcilers are written so that being stopped anywhere loses nothing."""
        await cancel([stream.task for stream in self._streams.values() if stream.task])

    async def _work(self, key: str, stream: _Stream) -> None:
        while True:
            stream.pressure.clear()
            async with self._slots:
                pause = await self._attempt(key, stream)
            if pause is None and not stream.pressure.is_set():
                stream.task = None
                return
            if not stream.pressure.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stream.pressure.wait(), pause)

    async def _attempt(self, key: str, stream: _Stream) -> float | None:
        """One run and its consequences. Returns seconds until the next run, or None for the next nudge."""
        started = time.monotonic()
        report: Report | None
        pause: float | None = None
        result = "success"
        try:
            outcome = await self._reconciler.reconcile(key, stream.pressure)
        except Stalled as stalled:
            result = "stalled"
            pause = stalled.again_after
            report = Report(Phase.STALLED, stalled.reason, str(stalled), stalled.attempted, stalled.applied)
        except Retry as retry:
            result = "retry"
            pause = retry.after if retry.after is not None else self._backoff(stream, retry.attempted)
            report = Report(
                Phase.RECONCILING,
                retry.reason,
                str(retry),
                retry.attempted,
                self._applied(key),
                next_retry=time.time() + pause,
            )
        except UNAVAILABLE as error:
            RUNS.labels(self._reconciler.name, "unavailable").inc()
            pause = self._backoff(stream, stream.attempted)
            log.warning("Redis is away, trying again in %.1f s: %s", pause, error, extra={"deployment": key})
            return pause
        except Exception as error:
            result = "error"
            pause = self._backoff(stream, stream.attempted)
            log.exception("reconciliation failed, trying again in %.1f s", pause, extra={"deployment": key})
            report = Report(
                Phase.RECONCILING,
                "InternalError",
                f"{type(error).__name__}: {error}",
                stream.attempted,
                self._applied(key),
                next_retry=time.time() + pause,
            )
        else:
            report, pause = _of_outcome(outcome)
        if pause is None or result in ("success", "stalled"):
            stream.failures = 0
        stream.attempted = report.attempted if report else None
        RUNS.labels(self._reconciler.name, result).inc()
        SECONDS.labels(self._reconciler.name).observe(time.monotonic() - started)
        try:
            await self._publish(key, report, time.monotonic() - started)
        except UNAVAILABLE:
            return FIRST_BACKOFF
        return pause

    def _backoff(self, stream: _Stream, attempted: str | None) -> float:
        if attempted != stream.attempted:
            stream.failures = 0
        delay = min(MAX_BACKOFF, FIRST_BACKOFF * 2.0**stream.failures)
        stream.failures += 1
        return delay * random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries, decides nothing

    def _applied(self, key: str) -> str | None:
        return self._reports[key].applied if key in self._reports else None

    async def _publish(self, key: str, report: Report | None, seconds: float) -> None:
        """Log the report, then write it and tell the change in one round trip; silent when nothing changed.

        The log comes first, since Redis may take nothing for the reason that the report gives. What Redis did
        not take is written again, and not logged again.
        """
        name = self._reconciler.name
        before = self._reports.get(key)
        if report is None:
            self._reports.pop(key, None)
            self._logged.pop(key, None)
            await self._store.hdel(keys.status(key), name)
            return
        if not report.says_the_same(self._logged.get(key)):
            self._logged[key] = report
            text = f"{report.reason}: {report.message}" if report.message else report.reason
            context = {"deployment": key, "commit": report.attempted, "seconds": round(seconds, 4)}
            log.log(_level(report), text, extra=context)
        if report.says_the_same(before) and report.next_retry is None:
            return
        app = Deployment.parse(key).app
        async with self._store.pipeline(transaction=False) as pipe:
            pipe.hset(keys.status(key), name, orjson.dumps(report.to_json()))
            if not report.says_the_same(before):
                wake.nudge(pipe, "status", key)
                if report.phase != Phase.RECONCILING or report.next_retry is not None:
                    events.record(pipe, _event(app, key, name, report))
            await pipe.execute()
        self._reports[key] = report


def _of_outcome(outcome: Outcome) -> tuple[Report | None, float | None]:
    match outcome:
        case Done():
            phase = Phase.READY
        case Waiting():
            phase = Phase.RECONCILING
        case Gone():
            return None, None
    report = Report(phase, outcome.reason, outcome.message, outcome.attempted, outcome.applied)
    return report, outcome.again_after


def _level(report: Report) -> int:
    """Steps on the way are for debugging; what ended, well or not, is for the reader of the log."""
    if report.phase == Phase.READY:
        return logging.INFO
    planned = report.phase == Phase.RECONCILING and report.next_retry is None
    return logging.DEBUG if planned else logging.WARNING


def _event(app: str, deployment: str, daemon: str, report: Report) -> events.Event:
    return events.Event(
        app=app,
        deployment=deployment,
        component=daemon,
        reason=report.reason,
        message=report.message,
        commit=report.attempted,
        type="Normal" if report.phase == Phase.READY else "Warning",
    )
