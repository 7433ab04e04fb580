"""Prometheus metrics of the data plane.

Label sets are bounded: deployments and components come from tables, codes are HTTP statuses, and every path
that no component answers counts under the component `-`. Children are resolved when a table is built, so a
request only adds to plain numbers, which `collect` hands over a few times a second.
"""

import os
from bisect import bisect_left
from collections.abc import Mapping

from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from uhlp_gateway.lanes import PoolSet

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: from a static file to the longest usual handler timeout."""


class Tally:
    """Durations since the last flush, by bucket: adding one costs a tenth of a histogram's `observe`."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


class TalliedHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def take(self, tally: Tally) -> None:
        """Add a tally and empty it."""
        for bucket, count in zip(self._buckets, tally.counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(tally.total)
        tally.counts = [0] * len(tally.counts)
        tally.total = 0.0


REQUESTS = Counter("uhlp_http_requests", "Requests answered.", ("app", "component", "code"))
DURATION = TalliedHistogram(
    "uhlp_http_request_duration_seconds",
    "From a request's head being read to its response being ready.",
    ("app", "component"),
    buckets=BUCKETS,
)
EXECUTE = TalliedHistogram(
    "uhlp_sandbox_execute_duration_seconds",
    "Waiting for a lane, and until the sandbox's answer.",
    ("app", "component"),
    buckets=BUCKETS,
)
QUEUE_DEPTH = Gauge(
    "uhlp_pool_queue_depth", "Requests that wait for a lane.", ("app", "pool"), multiprocess_mode="livesum"
)
IN_FLIGHT = Gauge(
    "uhlp_pool_in_flight", "Requests under way in sandboxes.", ("app", "pool"), multiprocess_mode="livesum"
)


class ComponentMetrics:
    """The numbers of one component of one deployment since the last flush."""

    __slots__ = ("_codes", "_duration", "_execute", "app", "component", "duration", "execute")

    def __init__(self, app: str, component: str) -> None:
        self.app = app
        self.component = component
        self.duration = Tally()
        self.execute = Tally()
        self._codes: dict[int, int] = {}
        self._duration = DURATION.labels(app, component)
        self._execute = EXECUTE.labels(app, component)

    def count(self, status: int, seconds: float) -> None:
        """One request was answered."""
        codes = self._codes
        codes[status] = codes.get(status, 0) + 1
        self.duration.add(seconds)

    def flush(self) -> None:
        """Hand the numbers over to Prometheus."""
        if not self._codes:
            return
        codes, self._codes = self._codes, {}
        for status, number in codes.items():
            REQUESTS.labels(self.app, self.component, str(status)).inc(number)
        self._duration.take(self.duration)
        self._execute.take(self.execute)


_by_component: dict[tuple[str, str], ComponentMetrics] = {}


def component_metrics(app: str, component: str) -> ComponentMetrics:
    """The metrics of a component; the same object for every table that has the component."""
    found = _by_component.get((app, component))
    if found is None:
        found = _by_component[app, component] = ComponentMetrics(app, component)
    return found


def collect(pools: Mapping[str, PoolSet]) -> None:
    """Bring the numbers that requests keep elsewhere up to date, for the next scrape."""
    for component in _by_component.values():
        component.flush()
    for app, pool_set in pools.items():
        for name, pool in pool_set.by_name.items():
            QUEUE_DEPTH.labels(app, name).set(pool.depth)
            IN_FLIGHT.labels(app, name).set(pool.in_flight)


def exposition() -> bytes:
    """What a scrape gets: of all gateway processes, where they share a folder for it."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest(PROCESS_REGISTRY)
