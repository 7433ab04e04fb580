"""A real Redis of a test's own, on a Unix socket in a short folder; it can be killed and started again."""

import itertools
import subprocess
from pathlib import Path

from support.waiting import wait_until
from uhlp_cli.redis_server import find_binary


class PrivateRedis:
    """Holds nothing on disk: killing it loses everything, as losing the platform's Redis may.

    Dumps its values uncompressed: they are searched for secrets.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def start(self) -> None:
        options = {"--port": "0", "--unixsocket": str(self.path), "--save": "", "--rdbcompression": "no"}
        command = [str(find_binary()), *itertools.chain(*options.items())]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self.path.exists, "Redis listens")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.path.unlink(missing_ok=True)
