"""The HTTP client for servers at an address: goes where it was let, to the address that was checked, and no
further."""

import ssl
from collections.abc import AsyncIterator
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from uhlp_core.errors import InvalidInput
from uhlp_mcp.egress import Egress, IpAddress

if TYPE_CHECKING:
    import httpx2

    from uhlp_mcp.community.connection import Connection

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Of one message from a server: as much as our own door takes."""

CONNECT_SECONDS = 10.0

_PORTS = {"http": 80, "https": 443}


async def check_address(egress: Egress, url: str) -> IpAddress:
    """Where a URL leads. Raises InvalidInput, EgressRefused, NameNotResolved."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or scheme not in _PORTS:
        raise InvalidInput("the address of an MCP server begins with https:// and a host")
    return (await egress.addresses(scheme, host, port or _PORTS[scheme]))[0]


@cache
def _tls() -> ssl.SSLContext:
    """One for all: making it takes 20 ms."""
    return ssl.create_default_context()


def client(connection: "Connection", egress: Egress) -> "httpx2.AsyncClient":
    """A client for one server. Its headers go with every request, and to nobody else."""
    import httpx2

    class Pinned(httpx2.AsyncBaseTransport):
        """Looks where the name leads at every request, and connects there and nowhere else."""

        def __init__(self) -> None:
            self._inner = httpx2.AsyncHTTPTransport(verify=_tls(), trust_env=False)

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            host = request.url.host
            address = await check_address(egress, str(request.url))
            # The name stays in the header Host, and is what the certificate must be for.
            request.extensions = {**request.extensions, "sni_hostname": host}
            request.url = request.url.copy_with(host=str(address))
            response = await self._inner.handle_async_request(request)
            if response.is_redirect:
                await response.aclose()
                raise httpx2.RequestError("it answered with a redirect, and none is followed")
            if "text/event-stream" not in response.headers.get("Content-Type", ""):
                # Of streams, the SDK bounds each event.
                assert isinstance(response.stream, httpx2.AsyncByteStream)
                response.stream = Bounded(response.stream)
            return response

        async def aclose(self) -> None:
            await self._inner.aclose()

    class Bounded(httpx2.AsyncByteStream):
        """A body that ends the request where it is longer than a message may be."""

        def __init__(self, inner: httpx2.AsyncByteStream) -> None:
            self._inner = inner

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in self._inner:
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    raise httpx2.ReadError(f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
                yield chunk

        async def aclose(self) -> None:
            await self._inner.aclose()

    return httpx2.AsyncClient(
        transport=Pinned(),
        headers=dict(connection.headers),
        timeout=httpx2.Timeout(CONNECT_SECONDS, read=connection.seconds + CONNECT_SECONDS),
        trust_env=False,
    )
