"""An engine that goes away and comes back, and daemons that do: an engine of the tests' own, to be ended."""

import asyncio
import signal

import docker as sdk
import pytest
from docker.utils import kwargs_from_env

from runner.sandbox import Sandbox
from support.own_engine import ENGINE_ENDS, OwnEngine
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_reconcilers.backends.protocol import BackendError

pytestmark = ENGINE_ENDS

CODE = "def healthy(input, context):\n    return 'well'\n"


async def test_an_engine_ends_and_comes_back(home: Home, own_engine: OwnEngine) -> None:
    backend = DockerBackend(home)
    sandbox = Sandbox(home, backend, "shop", "fork")
    sandbox.tree("t1", {"main.py": CODE})
    await sandbox.start()
    first = sandbox.instance
    waiting = asyncio.create_task(backend.wait(first))

    # An earlier daemon's instances are found by the next one, which is what a restart of ours is.
    later = DockerBackend(home)
    assert await later.list() == [first]

    await asyncio.to_thread(own_engine.end, signal.SIGTERM)
    await asyncio.wait_for(waiting, 15)
    assert not first.alive
    for one in (backend, later):
        with pytest.raises(BackendError, match="does not answer"):
            await one.list()
        with pytest.raises(BackendError, match="does not answer"):
            await one.remove(first, grace=0)
    assert first.dir.exists(), "nothing is forgotten before it is known to be gone"

    await asyncio.to_thread(own_engine.start)
    for one in (backend, later):
        [found] = await one.list()
        assert (found.instance, found.alive) == (first.instance, False)
    await backend.remove(first, grace=0)
    await sandbox.start()
    assert (await sandbox.execute("healthy"))[1]["data"] == "well"

    # What is changed by hand is noticed again after the gap.
    waiting = asyncio.create_task(backend.wait(sandbox.instance))
    client = sdk.APIClient(**kwargs_from_env(), version="auto")
    [container] = client.containers(filters={"label": "uhlp.home"})
    await asyncio.to_thread(client.pause, container["Id"])
    await asyncio.wait_for(waiting, 15)
    assert sandbox.instance.exit_reason == "paused by hand"
    await backend.remove(sandbox.instance, grace=0)
    client.close()
    backend.close()
    later.close()


async def test_an_engine_is_killed(home: Home, own_engine: OwnEngine) -> None:
    """Its containers go on until it is back, which without live-restore ends them."""
    backend = DockerBackend(home)
    sandbox = Sandbox(home, backend, "shop", "fork")
    sandbox.tree("t1", {"main.py": CODE})
    await sandbox.start()
    waiting = asyncio.create_task(backend.wait(sandbox.instance))
    await asyncio.to_thread(own_engine.end, signal.SIGKILL)
    assert sandbox.instance.alive
    assert (await sandbox.execute("healthy"))[1]["data"] == "well"
    with pytest.raises(BackendError, match="does not answer"):
        await backend.list()
    await asyncio.to_thread(own_engine.start)
    await asyncio.wait_for(waiting, 15)
    [found] = await backend.list()
    assert not found.alive
    await backend.remove(found, grace=0)
    assert await backend.list() == []
    backend.close()
