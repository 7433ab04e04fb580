"""Streamable HTTP of the Model Context Protocol: one message in, one answer or one stream of events out.

Plain requests for tools are answered here; the official SDK gets everything else. Who calls is known before.
"""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import orjson
from aiohttp import web
from multidict import CIMultiDictProxy

from uhlp_core import bearer
from uhlp_core.ids import is_request_id
from uhlp_mcp import message_memory, protocol
from uhlp_mcp.message_memory import MessageMemory, Share, TooMuchAtOnce
from uhlp_mcp.protocol import Request
from uhlp_mcp.tools import Caller, Toolbox

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Largest message: a runtime value or a log message, with room."""

BODY_SECONDS = 30.0
"""For a message to come in whole."""

PING_SECONDS = 15.0
"""A stream that has nothing to tell says so this often: proxies cut what is silent for long."""

SAFE_NAMES = "names=safe"
"""In the address's query: `tools/list` names tools without dots, for clients that refuse those."""

_INVALID_REQUEST = -32600
_EVENTS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


class Fallback(Protocol):
    """What answers the requests that are not answered here."""

    async def handle(self, request: web.BaseRequest, body: bytes, caller: Caller) -> web.StreamResponse:
        """The answer to any request of the protocol."""
        ...


class Endpoint:
    """Answers the messages of every caller."""

    def __init__(self, toolbox: Toolbox, fallback: Fallback) -> None:
        self._toolbox = toolbox
        self._fallback = fallback
        self._memory = MessageMemory()

    async def handle(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        """Answer one request at an MCP path. The server must cancel it when the client hangs up."""
        if request.method != "POST":
            response = refusal(405, "send messages with POST; this server opens no streams of its own")
            response.headers["Allow"] = "POST"
            return response
        length = request.content_length
        if length is not None and length <= message_memory.SMALL_BYTES:
            return await self._read_and_answer(request, caller)
        try:
            with self._memory.share(caller.app) as share:
                # Who does not tell the length may send the longest.
                share.hold(MAX_BODY_BYTES if length is None else min(length, MAX_BODY_BYTES))
                return await self._read_and_answer(request, caller, share)
        except TooMuchAtOnce:
            return refusal(
                429,
                "messages of the app that are under way take all the memory they may; send this one later",
                {"Retry-After": "1"},
            )

    async def _read_and_answer(
        self, request: web.BaseRequest, caller: Caller, share: Share | None = None
    ) -> web.StreamResponse:
        """Raises TooMuchAtOnce where its `share` cannot be had. A small message needs none."""
        body = await read_body(request)
        if body is None:
            response = refusal(
                413, f"a message has at most {MAX_BODY_BYTES} bytes and comes within {BODY_SECONDS:g} s"
            )
            response.force_close()
            return response
        if share is not None:
            weight = message_memory.weight(body)
            if weight > message_memory.MAX_OF_APP:
                return refusal(413, "the message has too many lists and objects; send it in several")
            share.hold(weight)
        return await self._answer(request, body, caller)

    async def _answer(self, request: web.BaseRequest, body: bytes, caller: Caller) -> web.StreamResponse:
        """Answer a message that has been read."""
        request_id = request.headers.get("X-Request-ID")
        if request_id is not None and is_request_id(request_id):
            caller = replace(caller, request_id=request_id)
        if _wants_safe_names(request):
            caller = replace(caller, safe_names=True)
        found = protocol.read(body)
        revision = request.headers.get("MCP-Protocol-Version")
        stateless = revision == protocol.STATELESS_REVISION
        if found is None or not _is_plain(request.headers, revision, found):
            return await self._fallback.handle(request, body, caller)
        token = found.progress_token
        if token is not None and "text/event-stream" in request.headers.get("Accept", ""):
            return await _Stream(request, token).run(self._toolbox, caller, found, stateless=stateless)
        plain = await protocol.answer(self._toolbox, caller, found, stateless=stateless)
        return web.Response(status=plain.status, body=plain.body, content_type="application/json")


class _Stream:
    """A stream of events that opens with the first one: what ends before that is answered as plain JSON."""

    def __init__(self, request: web.BaseRequest, token: str | int) -> None:
        self._request = request
        self._token = token
        self._number = 0
        self._response = web.StreamResponse(headers=_EVENTS)
        self._writing = asyncio.Lock()

    async def run(
        self, toolbox: Toolbox, caller: Caller, request: Request, *, stateless: bool
    ) -> web.StreamResponse:
        work = asyncio.ensure_future(
            protocol.answer(toolbox, caller, request, stateless=stateless, emit=self._emit)
        )
        try:
            while not (await asyncio.wait((work,), timeout=PING_SECONDS))[0]:
                await self._write(b": ping\r\n\r\n")
            answer = work.result()
            if not self._response.prepared:
                return web.Response(status=answer.status, body=answer.body, content_type="application/json")
            await self._write(_event(answer.body))
            await self._response.write_eof()
            return self._response
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    async def _emit(self, text: str, *, scripted: bool = False) -> None:
        self._number += 1
        await self._write(_event(protocol.progress(self._token, self._number, text, scripted=scripted)))

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            if not self._response.prepared:
                await self._response.prepare(self._request)
            await self._response.write(data)


def _wants_safe_names(request: web.BaseRequest) -> bool:
    """Whether SAFE_NAMES is in the query of the client's address."""
    return SAFE_NAMES in request.raw_path.partition("?")[2].split("&")


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """A refusal of HTTP's, for what reached no method of the protocol."""
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": _INVALID_REQUEST, "message": message}}
    return web.Response(
        status=status, body=orjson.dumps(body), content_type="application/json", headers=headers
    )


def unauthenticated(message: str, *, shown: bool = True) -> web.Response:
    """The refusal of a credential that is wrong, or that was not `shown`."""
    return refusal(401, message, bearer.challenge(was_shown=shown))


def _is_plain(headers: CIMultiDictProxy[str], revision: str | None, request: Request) -> bool:
    """Whether the headers ask for JSON in a revision that is known here, and agree with the body."""
    if not headers.get("Content-Type", "").lower().startswith("application/json"):
        return False
    accepted = headers.get("Accept", "")
    if "application/json" not in accepted and "*/*" not in accepted:
        return False
    if revision is None or revision in protocol.HANDSHAKE_REVISIONS:
        return True
    # Of a header that comes twice, others on the way may have read the other one.
    return (
        revision == protocol.STATELESS_REVISION
        and headers.getall("MCP-Protocol-Version") == [revision]
        and headers.getall("Mcp-Method", []) == [request.method]
        and request.has_envelope(revision)
        and (
            not request.name or [_decoded(name) for name in headers.getall("Mcp-Name", [])] == [request.name]
        )
    )


def _decoded(value: str) -> str | None:
    """A header's value that was wrapped for not being plain ASCII; None if it is wrapped wrongly."""
    if not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def _event(message: bytes) -> bytes:
    return b"event: message\r\ndata: " + message + b"\r\n\r\n"


async def read_body(request: web.BaseRequest, limit: int = MAX_BODY_BYTES) -> bytes | None:
    """The body, or None if it is too large, or has not come within BODY_SECONDS."""
    if (request.content_length or 0) > limit:
        return None
    content = request.content
    if content.is_eof():
        return content.read_nowait()
    chunks = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while not content.at_eof():
                chunks += await content.readany()
                if len(chunks) > limit:
                    return None
    except TimeoutError:
        return None
    return bytes(chunks)
