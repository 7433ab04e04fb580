"""The home's disk is full: serving goes on, nothing is half applied, and all heals by itself."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.platform_under_test import Clone, Platform, answering, app_files, new_folder
from support.waiting import PAUSE, wait_until

SIZE = "48m"
HEALS_WITHIN = 80.0
"""Seconds: what failed often is tried again after a minute, more or less."""

BLOCKS = (1 << 16, 4096, 1)
"""Bytes at a time, until not one more fits."""


@pytest.fixture
def small_platform(isolation: str) -> Iterator[Platform]:
    """Its home is a small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts disks")
    home = new_folder("uf")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(home)], check=True)
    platform = Platform(home, {"UHLP_ISOLATION": isolation})
    try:
        yield platform
    finally:
        platform.close()
        subprocess.run(["umount", "--lazy", str(home)], check=True)
        home.rmdir()


@contextmanager
def kept_full(folder: Path) -> Iterator[None]:
    """Room that is given back, by a process that ends for example, is taken at once."""
    filler, is_over = folder / "filler", threading.Event()
    _fill(filler)

    def keep() -> None:
        while not is_over.wait(PAUSE):
            _fill(filler)

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        filler.unlink()


def _fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        for block in BLOCKS:
            try:
                while file.write(bytes(block)) == block:
                    pass
            except OSError:
                continue


def test_a_full_disk(small_platform: Platform) -> None:
    platform = small_platform
    platform.start()
    app = platform.create("app", app_files("app", answering("one")))
    with kept_full(platform.home):
        fails_whole_and_is_told(platform, app)
    wait_until(lambda: platform.request("GET", "/", app="app").status == 200, "it serves again", HEALS_WITHIN)
    assert platform.answer("app") == {"answer": "one"}
    assert "✔ live at" in app.push().err
    assert platform.answer("app") == {"answer": "two"}
    assert "starting it again" not in platform.log(), "no daemon ended for want of space"


def fails_whole_and_is_told(platform: Platform, app: Clone) -> None:
    served = app.head()
    app.commit(app_files("app", answering("two")))
    refused = app.push()
    assert refused.code != 0
    assert "No space left on device" in refused.err
    assert platform.answer("app") == {"answer": "one"}
    head = subprocess.run(
        ["git", "-C", str(platform.repo("app")), "rev-parse", "main"], capture_output=True, text=True
    )
    assert head.stdout.strip() == served

    ended = set()

    def is_told() -> bool:
        # The next instance may be quick enough to start in the room that the ended one leaves.
        [deployment] = platform.uhlp("status", "app", "--json").json["deployments"]
        for instance in deployment["pools"][0]["instances"]:
            if instance["pid"] and instance["instance"] not in ended:
                os.kill(instance["pid"], 9)
                ended.add(instance["instance"])
        return "No space left on device; free some space: it is tried again" in platform.log()

    wait_until(is_told, "the log says why no instance is started, and what to do")
    status = platform.uhlp("status", "app")
    # Redis may still have room in its last block, and tell it; or else that it cannot be told anything.
    assert "No space left on device" in status.out + status.err
    checks = {check["name"]: check for check in platform.uhlp("doctor", "--json").json["checks"]}
    assert checks["disk"]["verdict"] == "fail"
    assert platform.request("GET", "/healthz").status == 200
    wait_until(
        lambda: {path.name for path in platform.home.glob("run/[cs]/*")} <= ended, "nothing is left half made"
    )
