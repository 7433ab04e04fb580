"""The one way from this process to providers over HTTP: where to, with which headers, how much back.

An app chooses the address, so it is treated as hostile: the connection goes to an address that was checked,
redirects are not followed, and an answer is bounded. The credential is put on the wire here and nowhere else,
so that no object, error or log line of an SDK can hold it.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import httpcore2
import httpx2

from uhlp_mcp.egress import Egress, EgressRefused, NameNotResolved

MAX_RESPONSE_BYTES = 16 * 1024 * 1024
"""Of one response: the longest answer token by token, each in an event of some hundred bytes."""

CONNECT_SECONDS = 10.0
MAX_IDLE_CONNECTIONS = 100
IDLE_SECONDS = 30.0
"""How long a connection that is not used stays open."""

_SENT_HEADERS = frozenset(
    {
        "host",
        "accept",
        "content-type",
        "content-length",
        "transfer-encoding",
        "connection",
        "anthropic-version",
        "anthropic-beta",
    }
)
"""All that is taken over from an SDK. They add headers from this process's environment, where an operator
may keep keys of other programs, and details of this machine."""


class AddressRefused(httpx2.TransportError):
    """The address must not be called; the text says why."""


class ResponseRefused(httpx2.TransportError):
    """The response is not read to its end; the text says why."""


class Wire:
    """Connections shared by all clients, with one TLS context."""

    def __init__(self, egress: Egress) -> None:
        context = httpx2.create_ssl_context()
        self._transports = {
            scheme: _Connections(context, _Checked(egress, scheme)) for scheme in ("https", "http")
        }

    def client(self, credential: Mapping[str, str]) -> httpx2.AsyncClient:
        """An HTTP client that sends `credential`, headers by lower-case name, with every request."""
        return httpx2.AsyncClient(
            transport=_Transport(self, credential),
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
        )

    async def send(self, request: httpx2.Request, credential: Mapping[str, str]) -> httpx2.Response:
        """Send one request of an SDK.

        Raises AddressRefused, ResponseRefused (also while the body is read), and other TransportErrors.
        """
        headers = {name: value for name, value in request.headers.items() if name in _SENT_HEADERS}
        headers |= {"accept-encoding": "identity", "user-agent": "uhlp", **credential}
        sent = httpx2.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        response = await self._transports[request.url.scheme].handle_async_request(sent)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise ResponseRefused("it is compressed, which was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Bounded(response.stream),
            extensions=response.extensions,
        )

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()


class _Checked(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that may be called, and to no others."""

    def __init__(self, egress: Egress, scheme: str) -> None:
        self._egress = egress
        self._scheme = scheme
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            addresses = await self._egress.addresses(self._scheme, host, port)
        except EgressRefused as refusal:
            raise AddressRefused(str(refusal)) from None
        except NameNotResolved as failure:
            raise httpcore2.ConnectError(str(failure)) from None
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except httpcore2.ConnectError:
                continue
        return await self._inner.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)


class _Connections(httpx2.AsyncHTTPTransport):
    """HTTP over connections that a backend of ours makes; the library's own constructor takes none."""

    def __init__(self, context: Any, backend: httpcore2.AsyncNetworkBackend) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            # Each app's own limits bound its connections; a shared bound would let one app starve others.
            max_connections=None,
            max_keepalive_connections=MAX_IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=backend,
        )


class _Transport(httpx2.AsyncBaseTransport):
    def __init__(self, wire: Wire, credential: Mapping[str, str]) -> None:
        self._wire = wire
        self._credential = credential

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._wire.send(request, self._credential)


class _Bounded(httpx2.AsyncByteStream):
    """A response's body that ends in an error when it grows too large."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_RESPONSE_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise ResponseRefused(f"it is larger than {MAX_RESPONSE_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
