"""From nothing to ready, against `docker run` of the same image running `true`."""

import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable

import pytest

from runner.sandbox import Sandbox

Start = Callable[..., Awaitable[Sandbox]]
ROUNDS = 5
GOAL = 1.5


@pytest.mark.skipif(shutil.which("docker") is None, reason="the reference is the `docker` command")
async def test_ready_from_nothing(start: Start, image: str) -> None:
    reference, ours = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run(["docker", "run", "--rm", "--network", "none", image, "true"], check=True)
        reference.append(time.perf_counter() - began)
        began = time.perf_counter()
        sandbox = await start()
        ours.append(time.perf_counter() - began)
        await sandbox.backend.remove(sandbox.instance, grace=0)
    ratio = min(ours) / min(reference)
    print(
        f"ready in {min(ours) * 1000:.0f} ms; `docker run` took {min(reference) * 1000:.0f} ms; {ratio:.2f}×"
    )
    assert ratio <= GOAL
