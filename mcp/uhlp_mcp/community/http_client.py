"""The HTTP client for servers at an address: goes where it was let, and no further."""

import httpx2

from uhlp_core.ids import Deployment
from uhlp_mcp.community.connection import MAX_ANSWER_BYTES, Connection
from uhlp_mcp.egress import Egress
from uhlp_mcp.outbound import CONNECT_SECONDS, Bounded, Outbound

_OF_HTTP = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding"})
"""Headers that are not the SDK's to choose."""


def client(connection: Connection, egress: Egress) -> httpx2.AsyncClient:
    """A client for one server. Its headers go with every request, and to nobody else."""
    app = Deployment.parse(connection.deployment).app
    return httpx2.AsyncClient(
        transport=_Transport(Outbound(egress), app, connection.seconds + CONNECT_SECONDS),
        headers=dict(connection.headers),
        timeout=None,
        trust_env=False,
    )


class _Transport(httpx2.AsyncBaseTransport):
    def __init__(self, outbound: Outbound, app: str, read_seconds: float) -> None:
        self._outbound = outbound
        self._app = app
        self._read_seconds = read_seconds

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name: value for name, value in request.headers.items() if name not in _OF_HTTP}
        response = await self._outbound.send(self._app, request, headers, self._read_seconds)
        if response.is_redirect:
            await response.aclose()
            raise httpx2.RequestError("it answered with a redirect, and none is followed")
        if "text/event-stream" not in response.headers.get("Content-Type", ""):
            # Of streams, the SDK bounds each event.
            response.stream = Bounded(response.stream, MAX_ANSWER_BYTES)
        return response

    async def aclose(self) -> None:
        await self._outbound.close()
