"""The one way from this process to providers: with which headers, how much back.

The credential is put on the wire here and nowhere else, so that no object, error or log line of an SDK can
hold it.
"""

from collections.abc import Mapping
from typing import Any

import httpx2

from uhlp_mcp.egress import Egress
from uhlp_mcp.outbound import Bounded, Outbound

MAX_RESPONSE_BYTES = 16 * 1024 * 1024
"""Of one response: the longest answer token by token, each in an event of some hundred bytes."""

_SENT_HEADERS = frozenset(
    {"accept", "content-type", "anthropic-version", "anthropic-beta"},
)
"""All that is taken over from an SDK. They add headers from this process's environment, where an operator
may keep keys of other programs, and details of this machine."""


class Wire:
    """Connections shared by all clients."""

    def __init__(self, egress: Egress) -> None:
        self._outbound = Outbound(egress)

    def client(self, app: str, credential: Mapping[str, str]) -> httpx2.AsyncClient:
        """An HTTP client for an app; sends `credential`, headers by lower-case name, with every request."""
        return _Client(_Transport(self._outbound, app, credential))

    async def close(self) -> None:
        await self._outbound.close()


class _Client(httpx2.AsyncClient):
    """Sends what an SDK asks for, as it is.

    What its base adds to every request (headers, cookies, authentication, redirects) is not wanted on this
    wire, and takes longer than sending it.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        super().__init__(transport=transport, timeout=None, follow_redirects=False, trust_env=False)
        self._wire = transport

    def build_request(self, method: str, url: httpx2.URL | str, **given: Any) -> httpx2.Request:
        given.pop("timeout", None)  # whoever calls a provider bounds that
        return httpx2.Request(method, url, **given)

    async def send(self, request: httpx2.Request, *, stream: bool = False, **given: Any) -> httpx2.Response:
        response = await self._wire.handle_async_request(request)
        response.request = request
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response


class _Transport(httpx2.AsyncBaseTransport):
    def __init__(self, outbound: Outbound, app: str, credential: Mapping[str, str]) -> None:
        self._outbound = outbound
        self._app = app
        self._credential = credential

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name: value for name, value in request.headers.items() if name in _SENT_HEADERS}
        headers = {**headers, "user-agent": "uhlp", **self._credential}
        response = await self._outbound.send(self._app, request, headers)
        response.stream = Bounded(response.stream, MAX_RESPONSE_BYTES)
        return response
