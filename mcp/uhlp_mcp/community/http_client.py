"""The HTTP client for servers at an address: goes where it was let, and no further."""

import httpx2

from uhlp_mcp.community.connection import MESSAGE, Connection
from uhlp_mcp.egress import Egress
from uhlp_mcp.intake import EVENTS, WHOLE, Intake, WeighedBody
from uhlp_mcp.outbound import CONNECT_SECONDS, Outbound

_OF_HTTP = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding"})
"""Headers that are not the SDK's to choose."""


def client(connection: Connection, egress: Egress, intake: Intake) -> httpx2.AsyncClient:
    """A client for one server. Its headers go with every request, and to nobody else."""
    return httpx2.AsyncClient(
        transport=_Transport(Outbound(egress), intake, connection.app, connection.seconds + CONNECT_SECONDS),
        headers=dict(connection.headers),
        timeout=None,
        trust_env=False,
    )


class _Transport(httpx2.AsyncBaseTransport):
    def __init__(self, outbound: Outbound, intake: Intake, app: str, read_seconds: float) -> None:
        self._outbound = outbound
        self._intake = intake
        self._app = app
        self._read_seconds = read_seconds

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name: value for name, value in request.headers.items() if name not in _OF_HTTP}
        response = await self._outbound.send(self._app, request, headers, self._read_seconds)
        if response.is_redirect:
            await response.aclose()
            raise httpx2.RequestError("it answered with a redirect, and none is followed")
        # As the SDK tells streams: what it took for a message must not have been weighed as events.
        kind = response.headers.get("Content-Type", "").strip().lower()
        framing = EVENTS if kind.startswith("text/event-stream") else WHOLE
        response.stream = WeighedBody(self._intake, self._app, response.stream, framing, MESSAGE)
        return response

    async def aclose(self) -> None:
        await self._outbound.close()
