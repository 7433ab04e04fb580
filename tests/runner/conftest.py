"""Sandboxes in a short folder (a socket's path has 107 bytes), removed with all they started.

A test that starts one with code for each language runs for each, in every mode.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.sandbox import MODES, SCRIPTS, Sandbox
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


@pytest.fixture(params=SCRIPTS)
def language(request: pytest.FixtureRequest) -> str:
    language: str = request.param
    if language == "javascript" and shutil.which("node") is None:
        pytest.skip("there is no Node.js on this machine")
    return language


@pytest.fixture
def start(home: Home, backend: ProcessBackend, mode: str, language: str) -> Start:
    """Start an instance with one script, in tree t1, of the code for the language; `healthy` is prepared."""

    async def begin(code: Mapping[str, str], app: str = "shop", **options: Any) -> Sandbox:
        sandbox = Sandbox(home, backend, app, mode, language)
        sandbox.tree("t1", {sandbox.script: code[language]})
        await sandbox.start(**options)
        assert await sandbox.ask(
            "POST",
            "/prepare",
            {
                "tree": "t1",
                "components": [{"componentId": "healthy", "script": sandbox.script, "function": "healthy"}],
            },
        ) == (200, {"ready": True})
        return sandbox

    return begin
