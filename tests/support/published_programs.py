"""Programs that others publish: MCP servers and SOPS, installed once per lock file; and a PostgreSQL."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from support import node_programs
from support.waiting import wait_until
from uhlp_state.model import AllowedMcpServer

REQUIRED = "UHLP_REQUIRE_COMMUNITY"
"""Set to 1, missing programs are installed, and what cannot be installed fails the tests."""

TESTS = Path(__file__).parent.parent
SERVERS = TESTS / "mcp" / "community"
SOPS = TESTS / "core" / "sops.lock"
NODE = "/usr/bin/node"
DOCS = TESTS.parent / "docs" / "community-servers.md"


def documented_program(name: str) -> AllowedMcpServer:
    """What docs/community-servers.md tells an operator to allow, from where tests install it."""
    given = json.dumps(_documented("allowedMcpServers")[name])
    for folder, installed in _FOLDERS.items():
        if f'"{folder}/' in given:
            given = given.replace(folder, str(installed()))
    return AllowedMcpServer.model_validate_json(given)


def documented_server(name: str) -> dict[str, Any]:
    """What docs/community-servers.md tells an app to declare for one of these programs."""
    server: dict[str, Any] = _documented("mcpServers")[name]
    return server


def sops() -> Path:
    """The folder of `sops`."""
    return _python(SOPS) / "bin"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The address of a database of the test's own; skips the test where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        missing("PostgreSQL is not installed; `apt-get install postgresql` does that")
    tools = found[-1].parent
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        initialise = [tools / "initdb", "-D", data, "-U", "ada", "--auth=trust", "--no-sync"]
        subprocess.run(initialise, user=user, check=True, capture_output=True, cwd="/")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        start = [tools / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-F"]
        server = subprocess.Popen(start, user=user, stderr=subprocess.DEVNULL, cwd="/")
        try:
            wait_until(lambda: _accepts(tools, port), "PostgreSQL accepts connections")
            yield f"postgresql://ada@127.0.0.1:{port}/postgres"
        finally:
            # Fast: without waiting until its clients have gone.
            server.send_signal(signal.SIGINT)
            server.wait()
    finally:
        shutil.rmtree(folder)


def install_all() -> None:
    """Install what is missing, before tests with time limits need it."""
    for lock in (SOPS, *sorted(SERVERS.glob("*.lock"))):
        _python(lock)
    _node()


@cache
def _python(lock: Path) -> Path:
    def install(folder: Path) -> None:
        # Not next to its place and moved: a virtual environment holds its own path.
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
        command = [folder / "bin/python", "-m", "pip", "install", "--require-hashes", "-r"]
        subprocess.run([*command, lock], check=True, capture_output=True, timeout=300)

    return _installed(lock, install)


@cache
def _node() -> Path:
    if not Path(NODE).exists():
        missing(f"{NODE} is not installed")
    return _installed(SERVERS / "package-lock.json", lambda folder: node_programs.install(SERVERS, folder))


_FOLDERS: dict[str, Callable[[], Path]] = {
    "/opt/mcp/python": lambda: _python(SERVERS / "requirements.lock"),
    "/opt/mcp/sqlite": lambda: _python(SERVERS / "sqlite.lock"),  # Its SDK is of another version.
    "/opt/mcp/node_modules": lambda: _node() / "node_modules",
}
"""Where the page has things installed, and what gives the folder where tests have them."""


@cache
def _documented(section: str) -> dict[str, Any]:
    """The last block of the page that begins with `section`: the first ones are examples of everything."""
    found = re.findall(rf"^```yaml\n({section}:\n.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    servers: dict[str, Any] = yaml.safe_load(found[-1])[section]
    return servers


def _installed(lock: Path, install: Callable[[Path], None]) -> Path:
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"uhlp-community-{digest}"
    done = folder.with_suffix(".done")
    if not done.exists():
        if os.environ.get(REQUIRED) != "1":
            missing(f"these programs are not installed; {REQUIRED}=1 installs them")
        shutil.rmtree(folder, ignore_errors=True)
        install(folder)
        done.touch()
    return folder


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it where everything is to be there."""
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(what)
    pytest.skip(what)


def _accepts(tools: Path, port: int) -> bool:
    command = [tools / "psql", "-h", "127.0.0.1", "-p", str(port), "-U", "ada", "-c", "SELECT 1", "postgres"]
    return subprocess.run(command, capture_output=True).returncode == 0
