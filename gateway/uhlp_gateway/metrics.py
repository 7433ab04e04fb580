"""Prometheus metrics of the data plane.

Label sets are bounded: deployments and components come from tables, codes are HTTP statuses, and every path
that no component answers counts under the component `-`. Children are resolved when a table is built, so a
request only adds numbers; counts by code are kept in plain integers and added up by `flush`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from uhlp_gateway.lanes import PoolSet

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: from a static file to the longest usual handler timeout."""

REQUESTS = Counter("uhlp_http_requests", "Requests answered.", ("app", "component", "code"))
DURATION = Histogram(
    "uhlp_http_request_duration_seconds",
    "From a request's head being read to its response being ready.",
    ("app", "component"),
    buckets=BUCKETS,
)
EXECUTE = Histogram(
    "uhlp_sandbox_execute_duration_seconds",
    "From a lane being taken to the sandbox's answer.",
    ("app", "component"),
    buckets=BUCKETS,
)
QUEUE_DEPTH = Gauge(
    "uhlp_pool_queue_depth", "Requests that wait for a lane.", ("app", "pool"), multiprocess_mode="livesum"
)
IN_FLIGHT = Gauge(
    "uhlp_pool_in_flight", "Requests under way in sandboxes.", ("app", "pool"), multiprocess_mode="livesum"
)


@dataclass(slots=True)
class ComponentMetrics:
    """The numbers of one component, labels resolved."""

    app: str
    component: str
    duration: Histogram
    execute: Histogram
    codes: dict[int, int] = field(default_factory=dict)
    """Responses by status since the last flush."""

    def count(self, status: int, seconds: float) -> None:
        """One request was answered."""
        codes = self.codes
        codes[status] = codes.get(status, 0) + 1
        self.duration.observe(seconds)

    def flush(self) -> None:
        """Hand the counts over to Prometheus."""
        codes, self.codes = self.codes, {}
        for status, number in codes.items():
            REQUESTS.labels(self.app, self.component, str(status)).inc(number)


_by_component: dict[tuple[str, str], ComponentMetrics] = {}


def component_metrics(app: str, component: str) -> ComponentMetrics:
    """The metrics of a component; the same object for every table that has the component."""
    found = _by_component.get((app, component))
    if found is None:
        found = ComponentMetrics(
            app, component, DURATION.labels(app, component), EXECUTE.labels(app, component)
        )
        _by_component[app, component] = found
    return found


def collect(pools: Mapping[str, PoolSet]) -> None:
    """Bring the numbers that requests keep elsewhere up to date, for the next scrape."""
    for component in _by_component.values():
        if component.codes:
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
