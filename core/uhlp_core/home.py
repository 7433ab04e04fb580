"""Where things lie in the data folder, as docs/architecture.md lists it. Creates folders, reads nothing."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

MAX_RUN_DIR = 60
"""A Unix socket's path holds 107 bytes; `s/<instance>/execute.sock` needs up to 47 of them."""


@dataclass(frozen=True)
class Home:
    """The data folder of one UHLP installation."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def repos(self) -> Path:
        return self.root / "repos"

    @property
    def trees(self) -> Path:
        return self.root / "trees"

    @property
    def data(self) -> Path:
        """Files that apps keep, a folder for each deployment."""
        return self.root / "data"

    @property
    def mcp_servers(self) -> Path:
        """Files that MCP servers keep, a folder for each server of a deployment."""
        return self.root / "mcp"

    @property
    def hooks(self) -> Path:
        return self.root / "hooks"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    @cached_property
    def run(self) -> Path:
        """Sockets and locks; in the temporary folder where the home lies too deep for a socket."""
        inside = self.root / "run"
        if len(os.fsencode(inside)) <= MAX_RUN_DIR:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"uhlp-{os.getuid()}-{digest}"

    @property
    def receive_socket(self) -> Path:
        return self.run / "receive.sock"

    @property
    def sandboxes(self) -> Path:
        return self.run / "s"

    @property
    def gateways(self) -> Path:
        """The gateways' internal doors, `<gateway id>.sock`."""
        return self.run / "g"

    @property
    def mcp_socket(self) -> Path:
        """The MCP daemon's door for the operator's commands."""
        return self.run / "mcp.sock"

    @property
    def metrics(self) -> Path:
        return self.run / "metrics"

    def repo(self, app: str) -> Path:
        return self.repos / f"{app}.git"

    def app_log(self, app: str) -> Path:
        return self.logs / app / "app.log"

    def create(self) -> None:
        """Make every folder; the ones that only this user may enter are closed to others.

        Raises PermissionError if the run folder exists and belongs to somebody else: in a shared temporary
        folder that would let another user listen in our place.
        """
        for folder in (self.root, self.repos, self.trees, self.hooks, self.logs, self.redis, self.trash):
            folder.mkdir(parents=True, exist_ok=True)
        for private in (self.root, self.run, self.secrets):
            private.mkdir(mode=0o700, parents=True, exist_ok=True)
            if private.stat().st_uid != os.getuid():
                raise PermissionError(
                    f"{private} belongs to another user; remove it or choose another --home"
                )
            private.chmod(0o700)
        for folder in (self.sandboxes, self.gateways, self.metrics):
            folder.mkdir(parents=True, exist_ok=True)
