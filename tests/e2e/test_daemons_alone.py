"""Every daemon runs alone, as a service manager starts it: `uhlp daemon NAME`, with a Redis of its own."""

import json
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.platform_under_test import UHLP, Platform, answering, app_files
from support.private_redis import PrivateRedis
from support.waiting import DEADLINE, wait_until
from uhlp_cli.up import DAEMONS

HANDLER = "state/_jit_code/root/v1/handler.py"


def _free_port() -> int:
    """A port whose successors are free as well: the control surface and the MCP server take those.

    Not of those that Linux gives out by itself: other tests would take one before the daemon does.
    """
    for port in random.sample(range(20_000, 30_000, 3), 100):
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            try:
                for number, probe in enumerate((one, two, three)):
                    probe.bind(("127.0.0.1", port + number))
            except OSError:
                continue
            return port
    raise AssertionError("no three free ports in a row")


class Services(Platform):
    """A platform without a supervisor: one process per daemon, started by hand."""

    port = 0

    @property
    def state(self) -> dict[str, object]:
        return {"port": self.port, "control": f"http://localhost:{self.port + 1}"}


@pytest.fixture
def services() -> Iterator[Services]:
    platform = Services()
    home = platform.home
    redis = PrivateRedis(platform.work)
    redis.start()
    platform.port = _free_port()
    platform.settings = {"UHLP_REDIS": redis.url, "UHLP_PORT": str(platform.port)}
    with (platform.work / "daemons.log").open("ab") as log:
        running = [
            subprocess.Popen(
                [str(UHLP), "daemon", name, "--home", str(home)],
                env=platform.environment,
                stdout=log,
                stderr=log,
            )
            for name in DAEMONS
        ]
    try:
        wait_until(lambda: _answers(platform), "gateway and control answer")
        yield platform
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        codes = {process.wait(DEADLINE) for process in running}
        for record in (home / "run" / "s").glob("*/instance.json"):
            _end_instance(record)
        redis.kill()
        platform.close()
    assert codes == {0}


def _end_instance(record: Path) -> None:
    """Instances outlive their daemon, and here nobody comes after it."""

    os.kill(int(json.loads(record.read_text())["pid"]), signal.SIGTERM)


def _answers(platform: Services) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", platform.port + 1), timeout=1):
            return platform.request("GET", "/readyz").status == 200
    except OSError:
        return False


def test_daemons_that_know_nothing_of_each_other_deploy_together(services: Services) -> None:
    clone = services.create("app", app_files("app", answering("one")))
    assert services.answer("app") == {"answer": "one"}
    clone.deploy({HANDLER: answering("two")})
    assert services.answer("app") == {"answer": "two"}
