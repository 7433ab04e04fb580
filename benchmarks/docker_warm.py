"""What a container costs a warm request: `server` mode in containers against the same in processes.

One gateway serves both apps; the rounds alternate. Both may use every core: what a limit costs is not meant.
"""

import os
import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks.gateway_hop import BODY, measure
from benchmarks.measuring import Row, running_platform
from e2e.platform_under_test import answering, app_files
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_reconcilers.backends.protocol import BackendError
from uhlp_state.model.pools import DEFAULT_IMAGE

GOAL = 0.95
ROUNDS = 15
SECONDS = 1
"""Short, and the ratio is taken in each round: what else the machine does then hits both sides alike."""

SIDES = ("docker", "process")


def rows() -> list[Row]:
    if shutil.which("wrk") is None:
        print("docker_warm is left out: it needs the load generator `wrk` (apt-get install wrk)")
        return []
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(prefix="ub-", dir="/tmp") as folder:
        backend = DockerBackend(Home(Path(folder)))
        try:
            backend.check(DEFAULT_IMAGE)
        except BackendError as error:
            print(f"docker_warm is left out: {error}")
            return []
        finally:
            backend.close()
        script = Path(folder) / "post.lua"
        script.write_text(f"wrk.method = 'POST'\nwrk.body = '{BODY}'\n")
        with running_platform() as platform:
            for side in SIDES:
                pool = f"      isolation: {side}\n      resourceLimits: {{cpuLimit: {os.cpu_count()}}}\n"
                files = app_files(side, answering(side), mode="server", pool=pool)
                registry = "state/component_registry.yaml"
                files[registry] = files[registry].replace("pathPattern: /,", "pathPattern: /hello,")
                platform.create(side, files)
                measure(platform.state["port"], f"{side}.localhost", 1, script)
            for _ in range(ROUNDS):
                for side in SIDES:
                    rate = measure(platform.state["port"], f"{side}.localhost", SECONDS, script)
                    rates[side].append(rate)
    docker, process = (statistics.median(rates[side]) for side in SIDES)
    what = "warm requests per second in containers (reference: in processes)"
    ratio = statistics.median(ours / theirs for ours, theirs in zip(*rates.values(), strict=True))
    return [Row(what, f"{docker:,.0f} /s", f"{process:,.0f} /s", ratio, f"≥ {GOAL:g} ×", ratio >= GOAL)]
