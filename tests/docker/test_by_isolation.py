"""Which pool runs on which backend, and what `auto` means on a machine with and without an engine."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from uhlp_cli.health import Verdict
from uhlp_cli.health_containers import check_containers
from uhlp_core.home import Home
from uhlp_core.settings import Settings
from uhlp_reconcilers.backends.by_isolation import ByIsolation
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_reconcilers.backends.process import ProcessBackend
from uhlp_reconcilers.backends.protocol import BackendError, InstanceSpec
from uhlp_state.model.pools import Isolation, ResourceLimits


@pytest.fixture
def spec(home: Home) -> InstanceSpec:
    return InstanceSpec(
        instance="one",
        app="shop",
        deployment="shop",
        pool="python",
        spec_hash="spec",
        mode="fork",
        concurrency=1,
        timeout_seconds=1.0,
        limits=ResourceLimits(),
        trees=home.trees / "shop",
        log=home.app_log("shop"),
    )


@pytest.fixture
def both(home: Home, backend: DockerBackend) -> Callable[[Isolation], ByIsolation]:
    return lambda auto: ByIsolation(ProcessBackend(home), backend, auto)


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        yield


@pytest.mark.parametrize(
    ("auto", "asked", "runs"),
    [
        (Isolation.AUTO, Isolation.AUTO, "docker"),
        (Isolation.AUTO, Isolation.PROCESS, "process"),
        (Isolation.PROCESS, Isolation.AUTO, "process"),
        (Isolation.PROCESS, Isolation.DOCKER, "docker"),
        (Isolation.DOCKER, Isolation.AUTO, "docker"),
    ],
)
async def test_where_it_runs(
    both: Callable[[Isolation], ByIsolation], spec: InstanceSpec, auto: Isolation, asked: Isolation, runs: str
) -> None:
    backend = both(auto)
    instance = await backend.ensure(replace(spec, isolation=asked))
    assert (instance.backend, instance.alive) == (runs, True)
    assert await backend.list() == [instance]
    assert backend.logs(instance) == spec.log
    assert (await backend.stats(instance)).processes >= 1
    await backend.remove(instance, grace=0)
    await backend.wait(instance)
    assert not instance.alive
    assert await backend.list() == []


@pytest.mark.usefixtures("no_engine")
async def test_a_machine_without_an_engine(home: Home, spec: InstanceSpec) -> None:
    backend = ByIsolation(ProcessBackend(home), DockerBackend(home), Isolation.AUTO)
    assert await backend.list() == []
    instance = await backend.ensure(spec)
    assert instance.backend == "process"
    assert await backend.list() == [instance]
    with pytest.raises(BackendError, match="does not answer"):
        await backend.ensure(replace(spec, instance="two", isolation=Isolation.DOCKER))
    assert await backend.list() == [instance]
    await backend.remove(instance, grace=0)
    backend.close()


async def test_what_was_started_is_not_forgotten(
    home: Home, backend: DockerBackend, spec: InstanceSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = await backend.ensure(spec)
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        later = ByIsolation(ProcessBackend(home), DockerBackend(home), Isolation.AUTO)
        with pytest.raises(BackendError, match="does not answer"):
            await later.list()
        with pytest.raises(BackendError, match="does not answer"):
            await later.ensure(replace(spec, instance="two"))
    assert started.alive
    assert await backend.list() == [started]


@pytest.mark.usefixtures("node_image")
async def test_doctor_tells_what_is_left_over_and_that_the_engine_is_away(
    home: Home, backend: DockerBackend, spec: InstanceSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load({}, home_dir=home.root)
    started = await backend.ensure(spec)
    checks = {check.name: check for check in await asyncio.to_thread(check_containers, settings)}
    assert checks["containers"].found == f"without a deployment: {started.container}"
    assert {name for name, check in checks.items() if check.verdict != Verdict.OK} <= {
        "containers",
        "docker-disk",
    }
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    [check] = await asyncio.to_thread(check_containers, settings)
    assert (check.name, check.verdict) == ("docker", Verdict.FAIL), "containers are on record"
    assert "does not answer" in check.found
    monkeypatch.undo()
    await backend.remove(started, grace=0)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    [check] = await asyncio.to_thread(check_containers, settings)
    assert check.verdict == Verdict.WARN
