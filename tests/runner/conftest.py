"""Sandboxes in a short folder (a socket's path has 107 bytes), removed with all they started."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.sandbox import MODES, Sandbox
from uhlp_core.home import Home
from uhlp_reconcilers.backends.process import ProcessBackend

Start = Callable[..., Awaitable[Sandbox]]


@pytest.fixture
def home() -> Iterator[Home]:
    folder = Path(tempfile.mkdtemp(prefix="u-", dir="/var/tmp"))
    home = Home(folder)
    home.create()
    yield home
    shutil.rmtree(folder)


@pytest.fixture
async def backend(home: Home) -> AsyncIterator[ProcessBackend]:
    backend = ProcessBackend(home)
    yield backend
    for instance in await backend.list():
        await backend.remove(instance, grace=0)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


@pytest.fixture
def start(home: Home, backend: ProcessBackend, mode: str) -> Start:
    """Start an instance with `main.py` as its only script, in tree t1; its functions are prepared."""

    async def begin(code: str, app: str = "shop", **options: Any) -> Sandbox:
        sandbox = Sandbox(home, backend, app, mode)
        sandbox.tree("t1", {"main.py": code})
        await sandbox.start(**options)
        assert await sandbox.ask(
            "POST",
            "/prepare",
            {
                "tree": "t1",
                "components": [{"componentId": "healthy", "script": "main.py", "function": "healthy"}],
            },
        ) == (200, {"ready": True})
        return sandbox

    return begin
