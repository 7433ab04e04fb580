"""Where things lie in the data folder, as docs/architecture.md lists it. Creates folders, reads nothing."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

MAX_RUN_DIR = 60
"""A Unix socket's path holds 107 bytes; `s/<instance>/execute.sock` needs up to 47 of them."""

MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - what is made in it is closed to others
"""Where Linux has files that are in memory only."""


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
    def environments(self) -> Path:
        """Installed packages, by the hash of what was asked for and what they were installed for."""
        return self.root / "environments"

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
        return Path(tempfile.gettempdir()) / self._name_outside

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
    def containers(self) -> Path:
        """What is known of containers that were started: must not be lost with `run` at a reboot."""
        return self.root / "containers"

    @cached_property
    def metrics(self) -> Path:
        """Where all daemons count; made by the supervisor. In memory where there is a folder for that.

        The files are mapped: who counts into one that a full disk has no room for is killed by the kernel.
        """
        in_memory = os.access(MEMORY_FOLDER, os.W_OK | os.X_OK)
        return MEMORY_FOLDER / f"{self._name_outside}-metrics" if in_memory else self.run / "metrics"

    @property
    def _name_outside(self) -> str:
        """A name for what is this home's and this user's, among those of others."""
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return f"uhlp-{os.getuid()}-{digest}"

    def repo(self, app: str) -> Path:
        return self.repos / f"{app}.git"

    def app_log(self, app: str) -> Path:
        return self.logs / app / "app.log"

    def create(self) -> None:
        """Make every folder; the ones that only this user may enter are closed to others.

        Raises PermissionError if the run folder exists and belongs to somebody else: in a shared temporary
        folder that would let another user listen in our place.
        """
        shared = (self.repos, self.trees, self.environments, self.hooks, self.logs, self.redis, self.trash)
        for folder in (self.root, *shared):
            folder.mkdir(parents=True, exist_ok=True)
        for private in (self.root, self.run, self.secrets):
            private.mkdir(mode=0o700, parents=True, exist_ok=True)
            if private.stat().st_uid != os.getuid():
                raise PermissionError(
                    f"{private} belongs to another user; remove it or choose another --home"
                )
            private.chmod(0o700)
        for folder in (self.sandboxes, self.gateways):
            folder.mkdir(parents=True, exist_ok=True)
