"""What instances use and how they end: a sample every few seconds for `uhlp status`, and Prometheus metrics.

Looks at what the sandboxes daemon holds and at the backend's numbers; decides nothing. Metrics are summed by
pool, since instances come and go and a label for each would never stop growing.
"""

import asyncio
import logging
import time
from collections import Counter as Tally
from collections.abc import Callable, Collection
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from uhlp_core import keys, store
from uhlp_core.ids import Deployment
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_reconcilers.backends.protocol import BackendError, Instance, InstanceStats, SandboxBackend
from uhlp_reconcilers.instances import Held
from uhlp_state.documents import UsageDoc

log = logging.getLogger(__name__)

SAMPLE_SECONDS = 5.0
"""Between two samples: often enough to see a leak grow, and nothing that an idle machine notices."""

MAX_SHARE = 0.005
"""Of the time that sampling may take; with very many instances the samples are further apart instead."""

LONGEST_PAUSE = 30.0
EXPIRE_SECONDS = 2 * round(LONGEST_PAUSE)
"""After which a sample is no answer to "now": by then another would have been written."""

_POOL = ("app", "deployment", "pool")
INSTANCES = Gauge(
    "uhlp_sandbox_instances", "Instances.", (*_POOL, "backend", "state"), multiprocess_mode="livesum"
)
MEMORY = Gauge(
    "uhlp_sandbox_memory_bytes", "Memory that a pool's instances use.", _POOL, multiprocess_mode="livesum"
)
CPU = Counter("uhlp_sandbox_cpu_seconds", "CPU time that a pool's instances have used.", _POOL)
RESTARTS = Counter(
    "uhlp_sandbox_restarts", "Instances that ended though they were wanted.", (*_POOL, "reason")
)

_REASONS = {
    "out of memory": "out_of_memory",
    "exited": "exited",
    "killed": "killed",
    "unanswering": "unanswering",
    "never started": "never_started",
    "ended": "unknown",
}
"""How an exit's text begins, and the label for it; any other was a deed of somebody's (paused, removed …)."""

_Pool = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Sample:
    """What an instance had used up, and when that was (monotonic seconds)."""

    cpu_seconds: float
    at: float


def count_exit(instance: Instance) -> None:
    """Count an instance that ended though it was wanted."""
    reason = instance.exit_reason or "ended"
    label = next((label for start, label in _REASONS.items() if reason.startswith(start)), "changed")
    RESTARTS.labels(*_pool(instance), label).inc()


class Usage:
    """Samples what is held, for as long as the daemon runs."""

    def __init__(self, redis: Store, backend: SandboxBackend, held: Callable[[], Collection[Held]]) -> None:
        self._redis = redis
        self._backend = backend
        self._held = held
        self._before: dict[str, _Sample] = {}
        self._since = time.time()
        self._counted: set[tuple[str, ...]] = set()
        self._weighed: set[_Pool] = set()

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            began = time.monotonic()
            try:
                await self.sample()
            except UNAVAILABLE as error:
                log.debug("the sample is lost: %s", error)
            fair = (time.monotonic() - began) / MAX_SHARE
            await asyncio.sleep(min(LONGEST_PAUSE, max(SAMPLE_SECONDS, fair)))

    async def sample(self) -> None:
        """Look at every instance once. Raises what `UNAVAILABLE` names if the numbers cannot be written."""
        held = list(self._held())
        memory: Tally[_Pool] = Tally()
        documents: dict[str, dict[str, bytes]] = {}
        now: dict[str, _Sample] = {}
        for one in held:
            instance = one.instance
            try:
                stats = await self._backend.stats(instance)
            except (BackendError, OSError) as error:
                log.debug("no numbers: %s", error, extra={"instance": instance.instance})
                continue
            now[instance.instance] = _Sample(stats.cpu_seconds, time.monotonic())
            memory[_pool(instance)] += stats.memory_bytes
            document = self._compare(instance, stats, now[instance.instance])
            documents.setdefault(instance.deployment, {})[instance.instance] = store.dumps(document.to_json())
        self._before = now
        self._set_gauges(held, memory)
        async with self._redis.pipeline(transaction=True) as pipe:
            for deployment, found in documents.items():
                pipe.delete(keys.usage(deployment))
                pipe.hset(keys.usage(deployment), mapping=found)
                pipe.expire(keys.usage(deployment), EXPIRE_SECONDS)
            await pipe.execute()

    def _compare(self, instance: Instance, stats: InstanceStats, now: _Sample) -> UsageDoc:
        """The sample as people see it; what was used since the last one is counted."""
        before = self._before.get(instance.instance)
        # Of an instance that an earlier daemon started, that daemon has counted the beginning.
        used = now.cpu_seconds - before.cpu_seconds if before else 0.0
        if before is None and instance.started_at >= self._since:
            used = now.cpu_seconds
        CPU.labels(*_pool(instance)).inc(max(0.0, used))
        return UsageDoc(
            instance=instance.instance,
            memory_bytes=stats.memory_bytes,
            memory_limit_bytes=stats.memory_limit_bytes,
            cpu_seconds=stats.cpu_seconds,
            cpu_percent=max(0.0, 100 * used / (now.at - before.at)) if before else None,
            processes=stats.processes,
            at=time.time(),
        )

    def _set_gauges(self, held: Collection[Held], memory: Tally[_Pool]) -> None:
        counts: Tally[tuple[str, ...]] = Tally(
            (*_pool(one.instance), one.instance.backend, one.state) for one in held
        )
        self._counted |= counts.keys()
        self._weighed |= memory.keys()
        for labels in self._counted:
            INSTANCES.labels(*labels).set(counts[labels])
        for pool in self._weighed:
            MEMORY.labels(*pool).set(memory[pool])


def _pool(instance: Instance) -> _Pool:
    return Deployment.parse(instance.deployment).app, instance.deployment, instance.pool
