"""Instances in real containers.

Without an engine these tests are skipped, unless UHLP_REQUIRE_DOCKER is set.
"""

import gc
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import docker as sdk
import pytest
from docker.utils import kwargs_from_env

from runner.sandbox import Sandbox
from support import images
from support.own_engine import OwnEngine, running
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_reconcilers.backends.docker_engine import Details, Engine
from uhlp_reconcilers.images import recipe

Start = Callable[..., Awaitable[Sandbox]]
Inspect = Callable[[Sandbox], Details]


@pytest.fixture(scope="session")
def image() -> str:
    """The image for Python of this version, in the engine."""
    images.in_engine()
    return recipe.tag(recipe.PYTHON_RUNNER)


@pytest.fixture(scope="session")
def node_image() -> str:
    """The image for JavaScript, likewise."""
    images.in_engine()
    return recipe.tag(recipe.NODE_RUNNER)


@pytest.fixture
def engine(image: str) -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def api(image: str) -> Iterator[sdk.APIClient]:
    """The engine as a person with the `docker` command has it."""
    client = sdk.APIClient(**kwargs_from_env(), version="auto")
    yield client
    client.close()


@pytest.fixture
def make_home() -> Iterator[Callable[[], Home]]:
    """Homes in short folders: a socket's path has 107 bytes."""
    folders = []

    def make() -> Home:
        folders.append(Path(tempfile.mkdtemp(prefix="u-", dir="/var/tmp")))
        home = Home(folders[-1])
        home.create()
        return home

    yield make
    for folder in folders:
        shutil.rmtree(folder)


@pytest.fixture
def home(make_home: Callable[[], Home]) -> Home:
    return make_home()


@pytest.fixture
async def make_backend(image: str) -> AsyncIterator[Callable[[Home], DockerBackend]]:
    """Backends whose instances are removed at the end."""
    backends = []

    def make(home: Home) -> DockerBackend:
        backends.append(DockerBackend(home))
        return backends[-1]

    yield make
    for backend in backends:
        for instance in await backend.list():
            await backend.remove(instance, grace=0)
        backend.close()


@pytest.fixture
def backend(home: Home, make_backend: Callable[[Home], DockerBackend]) -> DockerBackend:
    return make_backend(home)


@pytest.fixture
def start(home: Home, backend: DockerBackend) -> Start:
    """Start an instance with one script, in tree t1; nothing is prepared."""

    async def begin(
        code: str = "", app: str = "shop", mode: str = "fork", language: str = "python", **options: Any
    ) -> Sandbox:
        sandbox = Sandbox(home, backend, app, mode, language)
        sandbox.tree("t1", {sandbox.script: code})
        await sandbox.start(**options)
        return sandbox

    return begin


@pytest.fixture
def container_of(engine: Engine) -> Inspect:
    """What the engine says of an instance's container."""

    def inspect(sandbox: Sandbox) -> Details:
        found = map(engine.inspect, engine.containers({"uhlp.instance": sandbox.instance.instance}))
        [details] = [details for details in found if details and _is_mounted(sandbox.instance.dir, details)]
        return details

    return inspect


@pytest.fixture
def own_engine(image: str, caplog: pytest.LogCaptureFixture) -> Iterator[OwnEngine]:
    """An engine to be ended, and the one that DOCKER_HOST names; its tests are marked `ENGINE_ENDS`."""
    with running(image) as engine:
        yield engine
    caplog.clear()  # It holds on to errors, and so to their sockets.
    gc.collect()  # While the warnings about them are ignored.


def _is_mounted(folder: Path, details: Details) -> bool:
    """Other homes have instances of the same name, perhaps left by a run that was killed."""
    return str(folder) in [mount["Source"] for mount in details["Mounts"]]
