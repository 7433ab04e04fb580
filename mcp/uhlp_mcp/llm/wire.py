"""The one way from this process to providers: with which headers, how much back.

The credential is put on the wire here and nowhere else, so that no object, error or log line of an SDK can
hold it.
"""

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import httpx2

from uhlp_mcp.egress import Egress
from uhlp_mcp.intake import EVENTS, WHOLE, Intake, Limits, WeighedBody
from uhlp_mcp.llm.provider import MAX_COMPLETION_BYTES
from uhlp_mcp.outbound import Bounded, Outbound

MAX_STREAM_BYTES = 16 * 1024 * 1024
"""Of one streamed answer: the longest token by token, each in an event of some hundred bytes."""

ANSWER = Limits(4 * MAX_COMPLETION_BYTES, max_values=10_000, base_weight=512, value_weight=16)
"""Of an answer in one piece, and of one event. JSON spells letters beyond ASCII in up to three times their
bytes; around the text an answer has some dozens of values, and parsing as many as here takes milliseconds."""

FAILURE = Limits(64 * 1024, max_values=1000, base_weight=512, value_weight=16)
"""Of the body of an error, which only explains its status. What has more explains nothing."""

SENT_HEADERS = frozenset(
    {"accept", "content-type", "anthropic-version", "anthropic-beta"},
)
"""All that is taken over from an SDK. They add headers from this process's environment, where an operator
may keep keys of other programs, and details of this machine."""

_OTHER_CONTENT = ("cookies", "data", "files", "json", "params")
"""What a request of httpx can carry besides `content`, and none of ours does."""

_parsed = lru_cache(maxsize=1024)(httpx2.URL)


class Wire:
    """Connections shared by all clients."""

    def __init__(self, egress: Egress) -> None:
        self._outbound = Outbound(egress)
        self._intake = Intake()

    def client(self, app: str, credential: Mapping[str, str]) -> httpx2.AsyncClient:
        """An HTTP client for an app; sends `credential`, headers by lower-case name, with every request."""
        return _Client(self._outbound, self._intake, app, credential)

    async def close(self) -> None:
        await self._outbound.close()


class _Client(httpx2.AsyncClient):
    """Sends what an SDK asks for, as it is.

    What its base adds to every request (headers, cookies, authentication, redirects) is not wanted on this
    wire, and takes longer than sending it.
    """

    def __init__(self, outbound: Outbound, intake: Intake, app: str, credential: Mapping[str, str]) -> None:
        # The base gets a transport that sends nothing, and so makes none of its own.
        super().__init__(transport=httpx2.AsyncBaseTransport(), timeout=None, trust_env=False)
        self._outbound = outbound
        self._intake = intake
        self._app = app
        self._added = {"user-agent": "uhlp", **credential}

    def build_request(
        self,
        method: str,
        url: httpx2.URL | str,
        *,
        headers: Any = None,
        content: Any = None,
        **given: Any,
    ) -> httpx2.Request:
        """A request with the bytes of `content`, as SDKs make them; whoever calls a provider bounds its time.

        Raises TypeError for a body or a query of another kind.
        """
        if others := [name for name in _OTHER_CONTENT if given.get(name)]:
            raise TypeError(f"a request to a provider has no {others[0]} here: give all of it as `content`")
        stream = httpx2.ByteStream(content or b"")
        return httpx2.Request(method, _parsed(url), headers=headers, stream=stream)

    async def send(self, request: httpx2.Request, *, stream: bool = False, **given: Any) -> httpx2.Response:
        sent = {name: value for name, value in request.headers.items() if name in SENT_HEADERS}
        headers = {**sent, **self._added}
        response = await self._outbound.send(self._app, request, headers)
        response.request = request
        response.stream = self._weighed(response, stream)
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response

    def _weighed(self, response: httpx2.Response, stream: bool) -> WeighedBody:
        body = response.stream
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            return WeighedBody(self._intake, self._app, body, WHOLE, FAILURE, skips=True)
        if stream:
            return WeighedBody(self._intake, self._app, Bounded(body, MAX_STREAM_BYTES), EVENTS, ANSWER)
        return WeighedBody(self._intake, self._app, body, WHOLE, ANSWER)
