"""An engine of the tests' own: apart from the machine's, to be ended, emptied, and given other runtimes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker as sdk
import pytest
from docker.utils import kwargs_from_env

from support.images import REQUIRED
from uhlp_reconcilers.backends import procfs
from uhlp_reconcilers.backends.docker_engine import Engine
from uhlp_reconcilers.backends.protocol import BackendError

ENGINE_ENDS = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""Marks tests in which an engine ends: the SDK drops a socket that could not connect without closing it."""

STARTS = 30.0
"""Seconds that an engine may take to start."""


class OwnEngine:
    """A Docker daemon apart from the machine's: its own folders, its own containerd, no network."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        (folder / "daemon.json").write_text(json.dumps(settings))
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
            f"--config-file={self.folder}/daemon.json",
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
        self._end_forgotten_containers()
        self._log.close()
        for mount in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            # An engine that was killed leaves its mounts.
            if (target := mount.split()[1]).startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", target], check=True)

    def _end_forgotten_containers(self) -> None:
        """An engine that was killed may know nothing of a container that it was making."""
        for process in procfs.everything():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                command = (procfs.PROC / str(process.pid) / "cmdline").read_bytes()
                if f"{self.folder}/containerd.sock\0".encode() in command:
                    for member in procfs.tree(process.pid):
                        procfs.kill(member)

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=self._log, stderr=self._log, start_new_session=True)


@contextlib.contextmanager
def running(image: str, **settings: Any) -> Iterator[OwnEngine]:
    """An engine of our own that has the image and is the one that DOCKER_HOST names."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        assert not REQUIRED, "these tests need root and dockerd"
        pytest.skip("an engine of the tests' own needs root and dockerd")
    theirs = sdk.APIClient(**kwargs_from_env(), version="auto")
    folder = Path(tempfile.mkdtemp(prefix="ud-", dir="/var/tmp"))
    engine = OwnEngine(folder, settings)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", engine.url)
            engine.start()
            ours = sdk.APIClient(**kwargs_from_env(), version="auto", timeout=60)
            ours.load_image(theirs.get_image(image))
            ours.close()
            theirs.close()
            yield engine
    finally:
        engine.close()
        shutil.rmtree(folder)
