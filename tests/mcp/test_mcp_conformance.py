"""The official conformance suite, in both revisions, against our server code (see conformance/)."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.node_programs import programs, run
from uhlp_core.sockets import listen_tcp

HERE = Path(__file__).parent / "conformance"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    programs()
    with listen_tcp("127.0.0.1", 0) as listener:
        command = [sys.executable, str(HERE / "fixture_server.py"), str(listener.fileno())]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[listener.fileno()], text=True)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield f"http://localhost:{listener.getsockname()[1]}/mcp"
        finally:
            server.kill()
            server.communicate()


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_everything_that_the_revision_requires(url: str, revision: str, tmp_path: Path) -> None:
    done = run(
        "conformance", "server", "--url", url, "--requirements", revision, "-o", str(tmp_path),
    )  # fmt: skip
    summary = done.stdout.partition("=== SUMMARY ===")[2]
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert len(re.findall("^✓ ", summary, re.MULTILINE)) >= 31
