"""Whatever somebody does to a container by hand, its instance counts as ended, with the reason, and can be
started again; nobody else's container is touched."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import docker as sdk
import pytest

from runner.sandbox import Sandbox
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_reconcilers.backends.docker_engine import Details, Engine
from uhlp_reconcilers.backends.protocol import InstanceSpec
from uhlp_state.model.pools import ResourceLimits

Start = Callable[..., Awaitable[Sandbox]]
Inspect = Callable[[Sandbox], Details]
NOTICED = 20.0
"""Seconds; what is done to a container is noticed within milliseconds on an idle machine."""


def stop(api: sdk.APIClient, container: str) -> None:
    api.stop(container, timeout=1)


def kill(api: sdk.APIClient, container: str) -> None:
    api.kill(container)


def pause(api: sdk.APIClient, container: str) -> None:
    api.pause(container)


def remove(api: sdk.APIClient, container: str) -> None:
    api.remove_container(container, force=True)


def restart(api: sdk.APIClient, container: str) -> None:
    api.restart(container, timeout=0)


def raise_limit(api: sdk.APIClient, container: str) -> None:
    api.update_container(container, mem_limit="2g", memswap_limit="2g")


def connect(api: sdk.APIClient, container: str) -> None:
    api.disconnect_container_from_network(container, "none")
    api.connect_container_to_network(container, "bridge")


DEEDS = {
    stop: "exited with status 0",
    kill: "killed by SIGKILL",
    pause: "paused by hand",
    remove: "its container was removed by hand",
    raise_limit: "its limits were changed by hand",
    connect: "connected to the network bridge by hand",
}


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
async def test_it_is_noticed_at_once(
    backend: DockerBackend,
    start: Start,
    container_of: Inspect,
    deed: Callable[[sdk.APIClient, str], None],
    api: sdk.APIClient,
) -> None:
    sandbox = await start()
    instance = sandbox.instance
    waiting = asyncio.create_task(backend.wait(instance))
    container = container_of(sandbox)["Id"]
    await asyncio.to_thread(deed, api, container)
    await asyncio.wait_for(waiting, NOTICED)
    assert not instance.alive
    assert instance.exit_reason == DEEDS[deed]
    await backend.remove(instance, grace=0)
    assert await backend.list() == []
    assert not instance.dir.exists()


@pytest.mark.parametrize("deed", [*DEEDS, restart], ids=lambda deed: deed.__name__)
async def test_another_daemon_finds_it(
    home: Home,
    make_backend: Callable[[Home], DockerBackend],
    start: Start,
    container_of: Inspect,
    deed: Callable[[sdk.APIClient, str], None],
    api: sdk.APIClient,
) -> None:
    sandbox = await start()
    await asyncio.to_thread(deed, api, container_of(sandbox)["Id"])
    later = make_backend(home)
    [found] = await later.list()
    if deed is restart:
        assert found.alive, "it is as it was made"
        assert found.pid != sandbox.instance.pid
    else:
        assert not found.alive
        assert found.exit_reason == DEEDS[deed]
        await asyncio.wait_for(later.wait(found), NOTICED)
    assert (found.instance, found.deployment, found.pool) == (sandbox.instance.instance, "shop", "python")
    await later.remove(found, grace=0)
    assert await later.list() == []


async def test_it_is_started_again_under_the_same_name(
    home: Home, backend: DockerBackend, container_of: Inspect, api: sdk.APIClient
) -> None:
    spec = InstanceSpec(
        instance="again",
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
    first = await backend.ensure(spec)
    assert await backend.ensure(spec) == first, "found running"
    sandbox = Sandbox(home, backend, "shop", "fork")
    sandbox.instance = first
    await asyncio.to_thread(kill, api, container_of(sandbox)["Id"])
    await backend.wait(first)
    again = await backend.ensure(spec)
    assert again.alive
    assert again.pid != first.pid
    changed = await backend.ensure(replace(spec, spec_hash="other"))
    assert (changed.spec, again.alive) == ("other", False)
    assert await backend.list() == [changed]


async def test_other_containers_are_left_alone(
    make_home: Callable[[], Home],
    make_backend: Callable[[Home], DockerBackend],
    image: str,
    engine: Engine,
) -> None:
    homes = make_home(), make_home()
    ours, theirs = (Sandbox(home, make_backend(home), "shop", "fork") for home in homes)
    for sandbox in (ours, theirs):
        await sandbox.start()
    foreign = engine.create("", {"Image": image, "Entrypoint": ["sleep", "60"]})
    engine.start(foreign)
    try:
        assert [found.instance for found in await ours.backend.list()] == [ours.instance.instance]
        for instance in await ours.backend.list():
            await ours.backend.remove(instance, grace=0)
        assert [found.instance for found in await theirs.backend.list()] == [theirs.instance.instance]
        assert theirs.instance.alive
        details = engine.inspect(foreign)
        assert details is not None and details["State"]["Running"]
    finally:
        engine.remove(foreign)


FILLS = """
def fills(input, context):
    for path, size in (("/tmp/full", 64), ("/dev/shm/full", 16)):
        with open(path, "wb") as file:
            for _ in range(size):
                file.write(bytes(1 << 20))
"""


async def test_out_of_memory_is_named(backend: DockerBackend, start: Start) -> None:
    """What lies in /tmp is memory that no handler's end gives back: at last it is the runner's turn."""
    sandbox = await start(FILLS, memory_limit="16M")
    waiting = asyncio.create_task(backend.wait(sandbox.instance))
    with contextlib.suppress(ConnectionError, EOFError):
        await sandbox.execute("fills")
    await asyncio.wait_for(waiting, NOTICED)
    assert sandbox.instance.exit_reason == (
        "out of memory: killed by the kernel at the container's limit of 80 MiB"
    )
