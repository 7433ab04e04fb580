"""The one way from this process to providers over HTTP: where to, with which headers, how much back.

An app chooses the address, so it is treated as hostile: names are resolved here and the connection goes to
the address that was checked, redirects are not followed, and an answer is bounded. The credential is put on
the wire here and nowhere else, so that no object, error or log line of an SDK can hold it.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import httpcore2
import httpx2

MAX_RESPONSE_BYTES = 16 * 1024 * 1024
"""Of one response: the longest answer token by token, each in an event of some hundred bytes."""

CONNECT_SECONDS = 10.0
MAX_IDLE_CONNECTIONS = 100
IDLE_SECONDS = 30.0
"""How long a connection that is not used stays open."""

RESOLVE_SECONDS = 30.0
"""How long a name's addresses are remembered."""

MAX_REMEMBERED_NAMES = 1000

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

IpAddress = IPv4Address | IPv6Address


class AddressRefused(httpx2.TransportError):
    """The address must not be called; the text says why."""


class ResponseRefused(httpx2.TransportError):
    """The response is not read to its end; the text says why."""


class Wire:
    """Connections shared by all clients, with one TLS context."""

    def __init__(self, *, private_addresses: bool) -> None:
        """`private_addresses`: whether loopback and private networks may be called."""
        context = httpx2.create_ssl_context()
        resolver = Resolver()
        self._transports = {
            "https": _Connections(context, _Checked(resolver, private_addresses, public=True)),
            "http": _Connections(context, _Checked(resolver, private_addresses, public=False)),
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


class Resolver:
    """Addresses of names, remembered for a while."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], tuple[float, list[IpAddress]]] = {}

    async def addresses(self, host: str, port: int) -> list[IpAddress]:
        """Where a host is, best first. Raises httpcore2.ConnectError for a name that leads nowhere."""
        known = self._names.get((host, port))
        if known is not None and known[0] > time.monotonic():
            return known[1]
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore2.ConnectError(f"the name {host} cannot be resolved: {error.strerror}") from None
        # A zone (`%eth0`) names an interface of this machine, never a public address.
        found = [_plain(ip_address(str(answer[4][0]).partition("%")[0])) for answer in answers]
        if len(self._names) >= MAX_REMEMBERED_NAMES:
            self._names.clear()
        self._names[host, port] = (time.monotonic() + RESOLVE_SECONDS, found)
        return found


def _plain(address: IpAddress) -> IpAddress:
    """The address that is really meant: an IPv4 address can be written as an IPv6 one."""
    return getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address


class _Checked(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that may be called, and to no others."""

    def __init__(self, resolver: Resolver, private_addresses: bool, *, public: bool) -> None:
        self._resolver = resolver
        self._private_addresses = private_addresses
        self._public = public
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = await self._resolver.addresses(host, port)
        for address in addresses:
            self._check(host, address)
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except httpcore2.ConnectError:
                continue
        return await self._inner.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    def _check(self, host: str, address: IpAddress) -> None:
        private = not address.is_global or address.is_multicast
        if private and not self._private_addresses:
            raise AddressRefused(
                f"{host} leads to {address}, which is not on the public Internet; where that is meant, "
                "the operator sets llm_private_addresses"
            )
        if not private and not self._public:
            raise AddressRefused(f"{host} is on the public Internet, so its address must be https://")


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
