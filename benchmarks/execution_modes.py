"""The price of a request's isolation: `fork` and `interpreter` mode against starting a bare interpreter."""

import http.client
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.measuring import Row, at_most, interleaved, running_platform
from e2e.platform_under_test import Platform, answering, app_files

ROUNDS = 200


def rows() -> list[Row]:
    python = str(Path(sys.base_prefix) / "bin" / "python3")

    def bare() -> None:
        subprocess.run([python, "-I", "-S", "-c", "pass"], check=True)

    with running_platform() as platform:
        for mode in ("interpreter", "fork"):
            platform.create(mode, app_files(mode, answering(mode), mode=mode))
        interpreter, fork, reference = interleaved(
            ROUNDS, _asking(platform, "interpreter"), _asking(platform, "fork"), bare
        )
    return [
        at_most(
            "request in interpreter mode (reference: python3 -I -S -c pass)", interpreter, reference, 1.5
        ),
        at_most("request in fork mode (reference: the same)", fork, reference, 0.5),
    ]


def _asking(platform: Platform, app: str) -> Callable[[], None]:
    """One request over a kept connection, through the gateway."""
    port = platform.state["port"]
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask() -> None:
        connection.request("GET", "/", headers={"Host": f"{app}.localhost:{port}"})
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body

    return ask
