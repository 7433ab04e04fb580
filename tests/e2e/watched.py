"""What the daemons publish about an app's instances, read from Redis as the daemons themselves do."""

import json
import threading
from typing import Any

import redis

from e2e.platform_under_test import Platform
from support.waiting import wait_until
from uhlp_core import keys


class Watched:
    """The instances of one app as the sandboxes daemon publishes them."""

    def __init__(self, platform: Platform, app: str) -> None:
        self.platform = platform
        self.app = app
        password = (platform.home / "secrets" / "redis-password").read_text().strip()
        path = str(platform.home / "run" / "redis.sock")
        self._redis = redis.Redis(unix_socket_path=path, password=password)

    def close(self) -> None:
        self._redis.close()

    def documents(self) -> list[dict[str, Any]]:
        raw: Any = self._redis.hvals(keys.instances(self.app))
        return [json.loads(one) for one in raw]

    def named(self, state: str) -> set[str]:
        return {one["instance"] for one in self.documents() if one["state"] == state}

    def routed(self) -> set[str]:
        raw: Any = self._redis.get(keys.routes(self.app))
        return {lane["instance"] for lanes in json.loads(raw)["pools"].values() for lane in lanes}

    def becomes(self, ready: int, standby: int = 0) -> set[str]:
        """Wait until there are exactly so many, and no others; returns those that serve."""

        def there() -> bool:
            documents = self.documents()
            states = sorted(one["state"] for one in documents)
            if not all(one["prepared"] for one in documents):
                return False
            return states == ["ready"] * ready + ["standby"] * standby and len(self.routed()) == ready

        wait_until(there, f"{ready} serve and {standby} stand by")
        return self.named("ready")

    def kill_daemon(self) -> threading.Thread:
        killer = threading.Thread(target=self.platform.kill, args=("sandboxes",))
        killer.start()
        return killer
