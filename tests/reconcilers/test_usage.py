"""What instances use, sampled from real ones into a real Redis and into Prometheus."""

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from prometheus_client import REGISTRY

from runner.sandbox import Sandbox
from uhlp_core import keys
from uhlp_core.home import Home
from uhlp_core.store import Store
from uhlp_reconcilers import usage
from uhlp_reconcilers.backends.process import ProcessBackend
from uhlp_reconcilers.backends.protocol import Instance
from uhlp_reconcilers.instances import Held
from uhlp_reconcilers.usage import Usage

BURNS = """
import time

def burns(input, context):
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
"""
_apps = itertools.count(1)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    home = Home(Path(tempfile.mkdtemp(prefix="u-", dir="/var/tmp")))
    home.create()
    backend = ProcessBackend(home)
    sandbox = Sandbox(home, backend, f"used{next(_apps)}", "fork")
    sandbox.tree("t1", {"main.py": BURNS})
    await sandbox.start()
    yield sandbox
    for instance in await backend.list():
        await backend.remove(instance, grace=0)
    shutil.rmtree(home.root)


def metric(name: str, instance: Instance, **more: str) -> float | None:
    labels = {"app": instance.app, "deployment": instance.deployment, "pool": instance.pool, **more}
    return REGISTRY.get_sample_value(name, labels)


async def test_samples(redis: Store, sandbox: Sandbox) -> None:
    instance = sandbox.instance
    held = [Held(instance, state="ready")]
    sampler = Usage(redis, sandbox.backend, lambda: held)
    await sampler.sample()
    first = orjson.loads(await redis.hget(keys.usage(sandbox.app), instance.instance))
    assert (first["cpuPercent"], first["memoryLimitBytes"]) == (None, None)
    assert first["memoryBytes"] > 1 << 20
    assert 0 < await redis.ttl(keys.usage(sandbox.app)) <= usage.EXPIRE_SECONDS
    assert metric("uhlp_sandbox_instances", instance, backend="process", state="ready") == 1
    assert metric("uhlp_sandbox_memory_bytes", instance) == first["memoryBytes"]
    assert metric("uhlp_sandbox_cpu_seconds_total", instance) == 0, "an earlier daemon has counted that"

    assert (await sandbox.execute("burns"))[0] == 200
    await sampler.sample()
    second = orjson.loads(await redis.hget(keys.usage(sandbox.app), instance.instance))
    burned = second["cpuSeconds"] - first["cpuSeconds"]
    assert burned >= 0.25, "what the handler's process used, which has ended"
    assert second["cpuPercent"] > 1
    assert metric("uhlp_sandbox_cpu_seconds_total", instance) == pytest.approx(burned, abs=0.01)

    await sandbox.backend.remove(instance, grace=0)
    await sampler.sample()
    assert metric("uhlp_sandbox_memory_bytes", instance) == 0
    held.clear()
    await sampler.sample()
    assert metric("uhlp_sandbox_instances", instance, backend="process", state="ready") == 0


@pytest.mark.parametrize(
    ("reason", "label"),
    [
        ("out of memory: killed by the kernel at the container's limit of 80 MiB", "out_of_memory"),
        ("killed by SIGKILL", "killed"),
        ("exited with status 3", "exited"),
        ("unanswering: missed 2 health checks", "unanswering"),
        ("paused by hand", "changed"),
        (None, "unknown"),
    ],
)
def test_exits_are_counted_by_reason(tmp_path: Path, reason: str | None, label: str) -> None:
    instance = Instance(
        *("docker", "i", "shop", "shop", f"pool-{label}", "spec"),
        pid=0,
        start_ticks=0,
        started_at=0.0,
        dir=tmp_path,
        exit_reason=reason,
    )
    usage.count_exit(instance)
    assert metric("uhlp_sandbox_restarts_total", instance, reason=label) == 1
