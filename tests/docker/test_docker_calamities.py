"""What befalls the whole machine, and not one container: a reboot, images deleted, a disk that is full.

In engines and homes of the tests' own, since nobody else should be in it.
"""

import asyncio
import shutil
import signal

import docker as sdk
import pytest
from docker.utils import kwargs_from_env

from runner.sandbox import Sandbox
from support.own_engine import ENGINE_ENDS, OwnEngine
from uhlp_core.home import Home
from uhlp_reconcilers.backends.by_isolation import ByIsolation
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_reconcilers.backends.process import ProcessBackend
from uhlp_reconcilers.backends.protocol import BackendError
from uhlp_state.model.pools import Isolation

pytestmark = ENGINE_ENDS

CODE = "def healthy(input, context):\n    return 'well'\n"


async def test_the_machine_starts_again(home: Home, own_engine: OwnEngine) -> None:
    """Every process is gone, and `run` with it; the engine remembers its containers, but is not up yet."""
    backend = DockerBackend(home)
    sandbox = Sandbox(home, backend, "shop", "fork")
    sandbox.tree("t1", {"main.py": CODE})
    await sandbox.start()
    await asyncio.to_thread(own_engine.end, signal.SIGTERM)
    shutil.rmtree(home.run)
    home.create()

    later = ByIsolation(ProcessBackend(home), DockerBackend(home), Isolation.AUTO)
    with pytest.raises(BackendError, match="does not answer"):
        await later.list()
    assert later.settled() == Isolation.DOCKER, "nothing moves to where it is less protected"
    await asyncio.to_thread(own_engine.start)
    [left] = await later.list()
    assert (left.instance, left.app, left.alive) == (sandbox.instance.instance, "shop", False)
    assert left.exit_reason in ("exited with status 0", "killed by SIGKILL")
    await later.remove(left, grace=0)
    assert await later.list() == []
    await sandbox.start()
    assert (await sandbox.execute("healthy"))[1]["data"] == "well"
    await backend.remove(sandbox.instance, grace=0)
    backend.close()
    later.close()


async def test_the_images_are_deleted(home: Home, own_engine: OwnEngine, image: str) -> None:
    """What runs goes on; what is to start says what to do, and starts once that is done."""
    client = sdk.APIClient(**kwargs_from_env(), version="auto")
    layers = client.inspect_image(image)["Id"]
    backend = DockerBackend(home)
    sandbox = Sandbox(home, backend, "shop", "fork")
    sandbox.tree("t1", {"main.py": CODE})
    await sandbox.start()
    client.remove_image(image, force=True)
    assert client.images(image) == []
    assert [found.alive for found in await backend.list()] == [True]
    assert (await sandbox.execute("healthy"))[1]["data"] == "well"

    another = Sandbox(home, backend, "shop", "fork")
    with pytest.raises(BackendError, match=f"{image} of this version is not there; run `uhlp images build`"):
        await another.start()
    assert len(await backend.list()) == 1, "nothing is left half made"
    client.tag(layers, *image.split(":"))
    await another.start()
    assert (await another.execute("healthy"))[1]["data"] == "well"
    for instance in await backend.list():
        await backend.remove(instance, grace=0)
    client.close()
    backend.close()
