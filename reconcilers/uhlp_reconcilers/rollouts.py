"""Follows one commit on its way to being live, for somebody who waits for it (a push, a rollback).

Reads the daemons' reports from Redis whenever they change; decides nothing.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from uhlp_core import keys, store
from uhlp_core.status import CHAIN, Phase, Report
from uhlp_core.store import Store


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a commit stands."""

    done: bool
    live: bool
    message: str
    """What is being waited for, or why it ended."""


def progress_of(reports: dict[str, Report], commit: str) -> Progress:
    """Judge the reports with respect to one commit; reports about other commits do not count."""
    routes = reports.get("routes")
    if routes and routes.applied == commit and routes.phase == Phase.READY:
        return Progress(done=True, live=True, message=routes.message)
    about = {name: report for name, report in reports.items() if report.attempted == commit}
    for name in CHAIN:
        report = about.get(name)
        if report and report.phase == Phase.STALLED:
            return Progress(done=True, live=False, message=f"{report.reason}: {report.message}")
    for name in CHAIN:
        report = about.get(name)
        if report is None:
            return Progress(done=False, live=False, message=f"waiting for {name}")
        if report.phase == Phase.RECONCILING:
            return Progress(done=False, live=False, message=f"{report.reason}: {report.message}")
    return Progress(done=False, live=False, message="waiting for routes")


class Rollouts:
    """Lets many waiters share one subscription to status changes."""

    def __init__(self, redis: Store) -> None:
        self._redis = redis
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    def changed(self, deployment: str | None) -> None:
        """A report of this deployment (or of any, for None) was written."""
        names = list(self._waiting) if deployment is None else [deployment]
        for name in names:
            for event in self._waiting.get(name, ()):
                event.set()

    async def reports(self, deployment: str) -> dict[str, Report]:
        documents = await store.read_hash(self._redis, keys.status(deployment))
        return {name: Report.from_json(document) for name, document in documents.items()}

    async def follow(self, deployment: str, commit: str, seconds: float) -> AsyncGenerator[Progress, None]:
        """Yield the commit's progress whenever it changes, until it is done or the time is over."""
        deadline = asyncio.get_running_loop().time() + seconds
        event = asyncio.Event()
        self._waiting[deployment].add(event)
        last = None
        try:
            while True:
                event.clear()
                progress = progress_of(await self.reports(deployment), commit)
                if progress != last:
                    yield progress
                    last = progress
                remaining = deadline - asyncio.get_running_loop().time()
                if progress.done or remaining <= 0:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), remaining)
        finally:
            self._waiting[deployment].discard(event)
            if not self._waiting[deployment]:
                del self._waiting[deployment]
