"""An engine that goes away and comes back, and daemons that do: an engine of the tests' own, to be ended."""

import asyncio
import contextlib
import gc
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker as sdk
import pytest
from docker.utils import kwargs_from_env

from runner.sandbox import Sandbox
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_reconcilers.backends.docker_engine import Engine
from uhlp_reconcilers.backends.protocol import BackendError

# The SDK drops a socket that could not connect without closing it, and here there is much to fail.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

REQUIRED = bool(os.environ.get("UHLP_REQUIRE_DOCKER"))
CODE = "def healthy(input, context):\n    return 'well'\n"
STARTS = 30.0
"""Seconds that an engine may take to start."""


class OwnEngine:
    """A Docker daemon apart from the machine's: its own folders, its own containerd, no network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/docker.sock"
        self._log = (folder / "log").open("ab")
        # Apart from dockerd, as a machine's service manager starts it, so that it outlives one.
        self._containerd = self._spawn(
            "containerd",
            f"--address={folder}/containerd.sock",
            f"--root={folder}/containerd",
            f"--state={folder}/containerd-state",
        )
        self._dockerd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it answers."""
        (self.folder / "docker.pid").unlink(missing_ok=True)
        self._dockerd = self._spawn(
            # In a network of its own: an engine without a bridge removes the machine's.
            "unshare",
            "--net",
            "dockerd",
            f"--containerd={self.folder}/containerd.sock",
            f"--host={self.url}",
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/docker.pid",
            "--bridge=none",
            "--iptables=false",
        )
        deadline = time.monotonic() + STARTS
        engine = Engine()
        try:
            while time.monotonic() < deadline and self._dockerd.poll() is None:
                with contextlib.suppress(BackendError):
                    engine.info()
                    return
        finally:
            engine.close()
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def end(self, number: signal.Signals) -> None:
        """End it; its containers end with it if it is asked politely."""
        assert self._dockerd is not None
        self._dockerd.send_signal(number)
        self._dockerd.wait(STARTS)

    def close(self) -> None:
        """End everything."""
        for process in (self._dockerd, self._containerd):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(STARTS)
        self._log.close()
        for mount in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            # An engine that was killed leaves its mounts.
            if (target := mount.split()[1]).startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", target], check=True)

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=self._log, stderr=self._log, start_new_session=True)


@pytest.fixture
def own_engine(
    image: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[OwnEngine]:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        assert not REQUIRED, "these tests need root and dockerd"
        pytest.skip("an engine of the tests' own needs root and dockerd")
    theirs = sdk.APIClient(**kwargs_from_env(), version="auto")
    folder = Path(tempfile.mkdtemp(prefix="ud-", dir="/var/tmp"))
    engine = OwnEngine(folder)
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    try:
        engine.start()
        ours = sdk.APIClient(**kwargs_from_env(), version="auto", timeout=60)
        ours.load_image(theirs.get_image(image))
        ours.close()
        theirs.close()
        yield engine
    finally:
        engine.close()
        shutil.rmtree(folder)
        caplog.clear()  # It holds on to errors, and so to their sockets.
        gc.collect()  # While the warnings about them are ignored.


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
