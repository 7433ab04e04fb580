"""A data folder of its own for every test, the command line run inside it, and a real Redis where wanted."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from cli.support import Clone, Uhlp
from support.waiting import wait_until
from uhlp_cli import redis_server
from uhlp_core.home import Home


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """One author, whoever runs the tests; no settings of theirs."""
    for name, value in {
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("UHLP_HOME", raising=False)


@pytest.fixture
def uhlp() -> Iterator[Uhlp]:
    # Not tmp_path: its length does not leave room for a Unix socket's name.
    with tempfile.TemporaryDirectory(prefix="uhlp-") as folder:
        yield Uhlp(Home(Path(folder) / "home"))


@pytest.fixture
def hello(uhlp: Uhlp, tmp_path: Path) -> Clone:
    """A clone of the app `hello`, just created."""
    uhlp("app", "create", "hello")
    return Clone(uhlp, "hello", tmp_path / "hello")


@pytest.fixture
def store(uhlp: Uhlp) -> Iterator[redis.Redis]:
    """The embedded Redis of the data folder, running."""
    uhlp.home.create()
    password = redis_server.ensure_password(uhlp.home)
    server = subprocess.Popen(
        [redis_server.find_binary(), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    client = redis.Redis(unix_socket_path=str(uhlp.home.run / "redis.sock"), password=password)
    try:
        assert server.stdin is not None
        server.stdin.write(redis_server.configuration(uhlp.home, password).encode())
        server.stdin.close()
        wait_until(lambda: redis_server.is_listening(uhlp.home), "Redis listens")
        yield client
    finally:
        client.close()
        server.terminate()
        server.wait()
