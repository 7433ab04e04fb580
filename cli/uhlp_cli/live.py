"""The running platform as a command sees it: its Redis, and the addresses that the supervisor wrote down."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from uhlp_core.errors import Unavailable
from uhlp_core.ids import Deployment

if TYPE_CHECKING:
    from uhlp_core.settings import Settings
    from uhlp_core.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the platform is reached from this machine, without a slash at the end."""

    gateway: str
    control: str
    mcp: str
    """Of the MCP server; an app's tools are at `<mcp>/<app>`."""
    domain: str
    port: int

    def app_url(self, deployment: Deployment) -> str:
        """Where a deployment is served by its host name."""
        return f"http://{deployment.host_label}.{self.domain}:{self.port}/"

    def git_url(self, app: str) -> str:
        return f"{self.control}/git/{app}.git"


def running_state(settings: "Settings") -> dict[str, Any] | None:
    """What the supervisor wrote down in `run/up.json`: {pid, gateway, control, mcp, domain, port,
    startedAt, daemons: {name: pid}}; None while the platform is down.
    """
    try:
        found: dict[str, Any] = json.loads((settings.home.run / "up.json").read_text())
    except (OSError, ValueError):
        return None
    return found


def addresses(settings: "Settings") -> Addresses:
    """Where the running platform is, or where the settings promise it while it is down."""
    state = running_state(settings)
    if state is not None:
        return Addresses(state["gateway"], state["control"], state["mcp"], state["domain"], state["port"])
    return Addresses(
        f"http://localhost:{settings.port}",
        f"http://localhost:{settings.effective_control_port}",
        f"http://localhost:{settings.effective_mcp_port}/mcp",
        settings.domain,
        settings.port,
    )


def with_redis(settings: "Settings", work: "Callable[[Store], Awaitable[T]]") -> T:
    """Run `work` with a connection to the platform's Redis.

    Raises Unavailable if it cannot be reached, at the start or on the way. One that only cannot write, as on
    a full disk, is read, with a warning on standard error.
    """
    from uhlp_core.store import UNAVAILABLE, Unwritable, connect

    async def main() -> T:
        store = connect(settings)
        try:
            try:
                await store.ping()
            except Unwritable as error:
                warning = f"Redis takes no writes, so what it tells may be old; free some space: {error}"
                click.echo(warning, err=True)
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


def require_redis(settings: "Settings") -> None:
    """Raise Unavailable unless Redis can be reached, and can write."""

    async def ping(store: "Store") -> None:
        await store.ping()

    with_redis(settings, ping)
