"""How soon a container answers: from nothing against `docker run` of the same image, and from standby.

From nothing is what the docker backend and its runner take. From standby is a whole request: a pool that
sleeps is asked, an instance that stands by takes its place in the routes, and the client has its answer.
"""

import asyncio
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.measuring import Row, at_most, interleaved, milliseconds, running_platform
from e2e.platform_under_test import Platform, answering, app_files
from support.waiting import wait_until
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_reconcilers.backends.protocol import BackendError, InstanceSpec
from uhlp_reconcilers.images import recipe
from uhlp_reconcilers.instances import Held, become_ready
from uhlp_state.model.pools import DEFAULT_IMAGE, ResourceLimits

ROUNDS = 7
WAKINGS = 3
"""Between two of them the pool has to fall asleep, which takes seconds."""

GOAL = 1.5
STANDBY_GOAL = 150.0
"""Milliseconds."""

STANDBY = "      minInstances: 0\n      standbyInstances: 1\n      scaleDownAfterSeconds: 1\n"


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="ub-", dir="/tmp") as folder:
        backend = DockerBackend(Home(Path(folder)))
        try:
            backend.check(DEFAULT_IMAGE)
        except BackendError as error:
            print(f"container_ready is left out: {error}")
            return []
        ours, reference = interleaved(ROUNDS, _starting(Home(Path(folder)), backend), _docker_run)
        backend.close()
    with running_platform(UHLP_ISOLATION="docker") as platform:
        platform.create("spared", app_files("spared", answering("here"), pool=STANDBY))
        woken = statistics.median(_waking(platform) for _ in range(WAKINGS))
    return [
        at_most(
            "container ready from nothing (reference: docker run, same image, true)", ours, reference, GOAL
        ),
        Row(
            "first answer of a sleeping pool from standby (reference: container ready from nothing)",
            f"{woken:.2f} ms",
            f"{ours:.2f} ms",
            woken / ours,
            f"< {STANDBY_GOAL:g} ms",
            woken < STANDBY_GOAL,
        ),
    ]


def _docker_run() -> None:
    image = recipe.tag(recipe.PYTHON_RUNNER)
    subprocess.run(["docker", "run", "--rm", "--network", "none", image, "true"], check=True)


def _starting(home: Home, backend: DockerBackend) -> Callable[[], None]:
    """Start an instance until it is ready; the one before is removed first, as `docker run --rm` does."""
    home.create()
    spec = InstanceSpec(
        instance="bench",
        app="bench",
        deployment="bench",
        pool="main",
        spec_hash="",
        mode="fork",
        concurrency=8,
        timeout_seconds=30.0,
        limits=ResourceLimits(),
        trees=home.trees / "bench",
        log=home.app_log("bench"),
    )

    async def start() -> None:
        instance = await backend.ensure(spec)
        await become_ready(Held(instance))
        await backend.remove(instance, grace=0)

    return lambda: asyncio.run(start())


def _waking(platform: Platform) -> float:
    """Milliseconds of the first request, once an instance stands by and none serves."""

    def asleep() -> bool:
        (deployment,) = platform.uhlp("status", "spared", "--json").json["deployments"]
        states = [one["state"] for pool in deployment["pools"] for one in pool["instances"]]
        return states == ["standby"]

    platform.answer("spared")
    wait_until(asleep, "the pool sleeps, and one stands by")
    return milliseconds(lambda: platform.answer("spared"))
