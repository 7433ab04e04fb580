"""Streamable HTTP of one door: `POST /mcp`, one JSON message in, at most one out. No streams, no sessions."""

import orjson
from aiohttp import web

from uhlp_mcp.protocol import INVALID_REQUEST, REVISIONS, answer
from uhlp_mcp.tools import Caller, Toolbox

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Largest message: a runtime value or a log message, with room."""

PATH = "/mcp"


class Endpoint:
    """Answers the requests of one caller."""

    def __init__(self, toolbox: Toolbox, caller: Caller) -> None:
        self._toolbox = toolbox
        self._caller = caller

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The handler of aiohttp's low-level server."""
        if request.raw_path.partition("?")[0] != PATH:
            return _refusal(404, f"only {PATH} is served here")
        if request.method != "POST":
            response = _refusal(405, "send messages with POST; this server opens no streams")
            response.headers["Allow"] = "POST"
            return response
        revision = request.headers.get("MCP-Protocol-Version")
        if revision is not None and revision not in REVISIONS:
            return _refusal(400, f"unknown protocol revision; known are {', '.join(sorted(REVISIONS))}")
        if request.content_type != "application/json":
            return _refusal(415, "send application/json")
        body = await _read(request)
        if body is None:
            response = _refusal(413, f"a message has at most {MAX_BODY_BYTES} bytes")
            response.force_close()
            return response
        found = await answer(self._toolbox, self._caller, body)
        if not found.body:
            return web.Response(status=found.status)
        return web.Response(status=found.status, body=found.body, content_type="application/json")


async def _read(request: web.BaseRequest) -> bytes | None:
    """The body, or None if it is too large."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return None
    content = request.content
    chunks = bytearray()
    while not content.at_eof():
        chunks += await content.readany()
        if len(chunks) > MAX_BODY_BYTES:
            return None
    return bytes(chunks)


def _refusal(status: int, message: str) -> web.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": INVALID_REQUEST, "message": message}}
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
