"""The running platform as a command sees it: its Redis, and the addresses that the supervisor wrote down."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from uhlp_core.errors import Unavailable

if TYPE_CHECKING:
    from uhlp_core.settings import Settings
    from uhlp_core.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the platform is reached from this machine, without a slash at the end."""

    gateway: str
    control: str
    domain: str
    port: int

    def app_url(self, host_label: str) -> str:
        """Where a deployment is served by its host name (`uhlp_core.ids.Deployment.host_label`)."""
        return f"http://{host_label}.{self.domain}:{self.port}/"

    def git_url(self, app: str) -> str:
        return f"{self.control}/git/{app}.git"


def addresses(settings: "Settings") -> Addresses:
    """What `run/up.json` says, or what the settings promise while the platform is down."""
    try:
        found = json.loads((settings.home.run / "up.json").read_text())
        return Addresses(found["gateway"], found["control"], found["domain"], found["port"])
    except (OSError, ValueError, KeyError):
        return Addresses(
            f"http://localhost:{settings.port}",
            f"http://localhost:{settings.effective_control_port}",
            settings.domain,
            settings.port,
        )


def with_redis(settings: "Settings", work: "Callable[[Store], Awaitable[T]]") -> T:
    """Run `work` with a connection to the platform's Redis.

    Raises Unavailable if it cannot be reached, at the start or on the way.
    """
    from uhlp_core.store import UNAVAILABLE, connect

    async def main() -> T:
        store = connect(settings)
        try:
            await store.ping()
            return await work(store)
        except UNAVAILABLE as error:
            raise Unavailable(
                f"Redis cannot be reached ({error}): start the platform with `uhlp up`, "
                "or check the setting `redis`",
                code="REDIS_UNREACHABLE",
            ) from None
        finally:
            await store.aclose()

    return asyncio.run(main())
