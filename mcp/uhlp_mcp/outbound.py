"""The HTTP of the official SDKs, to addresses that apps choose: goes where `Egress` lets it, and no further.

Redirects are not followed, bodies can be bounded, and nothing is decompressed. Underneath is aiohttp: the
SDKs' own transport takes several times as long for a request.
"""

import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import aiohttp
import httpx2
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from uhlp_mcp.egress import PORTS, Egress, EgressRefused, NameNotResolved

# It tells of every request, which is ours to do.
logging.getLogger("httpx2").setLevel(logging.WARNING)

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0
"""How long a connection that is not used stays open."""

_OWN_HEADERS = frozenset({"Accept", "Accept-Encoding", "Content-Type", "User-Agent"})
"""What aiohttp would add where it is missing."""


_app: ContextVar[str] = ContextVar("_app")
"""Whose request is being sent: of that, aiohttp tells its resolver nothing but the name."""


class AddressRefused(httpx2.TransportError):
    """The address must not be called; the text says why."""


class ResponseRefused(httpx2.TransportError):
    """The response is not read to its end; the text says why."""


@cache
def tls() -> ssl.SSLContext:
    """One for all: making it takes as long as many requests. It knows the system's authorities."""
    return ssl.create_default_context()


class Outbound:
    """Connections that are kept for the next request."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def send(
        self, app: str, request: httpx2.Request, headers: Mapping[str, str], read_seconds: float | None = None
    ) -> httpx2.Response:
        """Send a request with these headers in place of its own.

        Args:
            app: for which it is sent, and which has chosen the address.
            request: its body is read whole before it is sent.
            headers: all that is sent, but for those that HTTP itself needs.
            read_seconds: how long to wait for each further piece of the answer; None for ever.

        Raises AddressRefused, ResponseRefused, and other TransportErrors, also while the body is read.
        """
        url = request.url
        _app.set(app)
        await self._check(app, url.scheme, url.host, url.port or PORTS[url.scheme])
        body = await request.aread()
        with _as_transport_error():
            response = await self._session(url.scheme).request(
                request.method,
                URL(str(url), encoded=True),
                headers={**headers, "accept-encoding": "identity"},
                data=body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=read_seconds
                ),
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise ResponseRefused("it is compressed, which was not asked for")
        answer = httpx2.Response(response.status, headers=response.raw_headers, stream=_Body(response))
        # JSON has no other, and whoever answers could name one that unpacks, or hides what is in a message.
        answer.encoding = "utf-8"
        return answer

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    def _session(self, scheme: str) -> aiohttp.ClientSession:
        if scheme not in self._sessions:
            self._sessions[scheme] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    # Who calls bounds the connections; a shared bound would let one app starve others.
                    limit=0,
                    resolver=_Checked(self._egress, scheme),
                    use_dns_cache=False,
                    ssl=tls(),
                    keepalive_timeout=IDLE_SECONDS,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_OWN_HEADERS,
                auto_decompress=False,
            )
        return self._sessions[scheme]

    async def _check(self, app: str, scheme: str, host: str, port: int) -> None:
        """At every request: an address in the place of a name reaches no resolver, and a name can move."""
        try:
            await self._egress.addresses(app, scheme, host, port)
        except EgressRefused as refusal:
            raise AddressRefused(str(refusal)) from None
        except NameNotResolved as failure:
            raise httpx2.ConnectError(str(failure)) from None


class Bounded(httpx2.AsyncByteStream):
    """A response's body that ends in ResponseRefused when it grows too large."""

    def __init__(self, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream, limit: int) -> None:
        assert isinstance(stream, httpx2.AsyncByteStream)
        self._stream = stream
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._limit:
                raise ResponseRefused(f"it is larger than {self._limit} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Checked(AbstractResolver):
    """Leads to addresses that may be called, and to no others."""

    def __init__(self, egress: Egress, scheme: str) -> None:
        self._egress = egress
        self._scheme = scheme

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._egress.addresses(_app.get(), self._scheme, host, port)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_transport_error():
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        self._response.close()


@contextmanager
def _as_transport_error() -> Iterator[None]:
    """Turns what aiohttp raises into what the SDKs expect of their transport."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx2.ConnectTimeout(str(error)) from None
    except aiohttp.ClientConnectorError as error:
        raise httpx2.ConnectError(str(error)) from None
    except TimeoutError as error:
        raise httpx2.ReadTimeout(str(error)) from None
    except (aiohttp.ClientError, OSError) as error:
        raise httpx2.ReadError(str(error)) from None
