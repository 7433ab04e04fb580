"""Addresses of servers that register themselves at run time, each for as long as its lease.

In Redis, which forgets them by itself when a lease is over.
"""

from typing import Any

from uhlp_core import keys
from uhlp_core.errors import InvalidInput, NotFound
from uhlp_core.store import Store
from uhlp_mcp.egress import Egress
from uhlp_mcp.schema import of, text
from uhlp_mcp.served import Served
from uhlp_mcp.tools import Caller, compiled, violations

SCOPE = "register"
"""Of the token or key that may register; an API key has it by the permission `mcp:register`."""

MIN_LEASE_SECONDS = 10
MAX_LEASE_SECONDS = 3600
"""A server that is gone is called for no longer than this."""

_BODY = compiled(
    of(
        {
            "app": text(100, 1),
            "name": text(100, 1),
            "url": text(2048, pattern=r"^https?://[^\s@\\#]+$"),
            "leaseSeconds": {"type": "integer", "minimum": MIN_LEASE_SECONDS, "maximum": MAX_LEASE_SECONDS},
        }
    )
)


class Registrations:
    """Keeps the leases."""

    def __init__(self, store: Store, served: Served, egress: Egress) -> None:
        self._store = store
        self._served = served
        self._egress = egress

    async def register(self, caller: Caller, body: Any) -> dict[str, Any]:
        """Begin or renew a lease of the caller's deployment.

        Raises InvalidInput, NotFound where the app lets no server of this name register, and EgressRefused or
        NameNotResolved for an address that must not be called.
        """
        if wrong := violations(_BODY, body):
            raise InvalidInput(f"the registration is not valid: {wrong}")
        name, seconds = body["name"], body["leaseSeconds"]
        server = (await self._served.governing(caller.deployment)).definition.mcp_servers.get(name)
        if server is None or not server.registers:
            raise NotFound(
                f"{caller.deployment} lets no server register as {name!r}; mcpServers says `register: true`"
            )
        await self._egress.check(caller.app, body["url"])
        await self._store.set(keys.mcp_registration(caller.deployment, name), body["url"], ex=seconds)
        return {"app": caller.deployment, "name": name, "url": body["url"], "leaseSeconds": seconds}

    async def url(self, deployment: str, name: str) -> str:
        """Where the server is; empty if no lease runs."""
        found: bytes | None = await self._store.get(keys.mcp_registration(deployment, name))
        return found.decode() if found is not None else ""
