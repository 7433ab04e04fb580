"""`tools/list` and `tools/call` of the Model Context Protocol, as bytes in and bytes out; knows no transport.

Takes only what is plain and well-formed, in revision 2026-07-28 and in those before it. Everything else is
left to the official SDK (`uhlp_mcp.sdk`), which knows the whole protocol but needs several times as long.
"""

import logging
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import orjson

from uhlp_core.errors import UhlpError, Unavailable
from uhlp_core.store import UNAVAILABLE
from uhlp_mcp.blocks import Blocks
from uhlp_mcp.tools import Caller, Emit, ScriptedContent, Toolbox, UnknownTool, safe_name

STATELESS_REVISION = "2026-07-28"
"""Every request carries its own envelope, in the headers as well as in `_meta`."""

HANDSHAKE_REVISIONS = frozenset({"2025-11-25", "2025-06-18", "2025-03-26"})
"""Clients say `initialize` first; the two methods differ in nothing that is used here."""

INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

LIST_FRESH_MS = 5000
"""How long a client may keep a list of tools: a push can change those of its app."""

ERROR_META = "uhlp/error"
"""In `_meta` of a result with `isError`: {code, retryAfter?, scripted?} for programs; its text is for
models."""

SCRIPTED_META = "uhlp/scripted"
"""In `_meta` of a result or of progress: true where a script of the app's wrote it, and no language model."""

STORE_AWAY = "the state store is away at the moment; try again"

_PREFIX = "io.modelcontextprotocol/"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed `tools/list` or `tools/call`."""

    ident: str | int
    method: str
    params: dict[str, Any]
    name: str
    """Of the tool; empty in `tools/list`."""
    arguments: dict[str, Any]
    meta: dict[str, Any]

    @property
    def progress_token(self) -> str | int | None:
        """What the client wants progress to be told under, if it wants any."""
        token = self.meta.get("progressToken")
        return token if isinstance(token, str | int) and not isinstance(token, bool) else None

    def has_envelope(self, revision: str) -> bool:
        """Whether `_meta` carries what the stateless revision wants in every request."""
        meta = self.meta
        client = meta.get(_PREFIX + "clientInfo", {"name": "", "version": ""})
        return (
            meta.get(_PREFIX + "protocolVersion") == revision
            and isinstance(meta.get(_PREFIX + "clientCapabilities"), dict)
            and isinstance(client, dict)
            and isinstance(client.get("name"), str)
            and isinstance(client.get("version"), str)
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and the HTTP status that goes with it."""

    status: int
    body: bytes


class RpcError(Exception):
    """The request names what is not there."""

    def __init__(self, message: str, data: dict[str, Any] | None = None) -> None:
        """`data` is for programs: {code}, as in ERROR_META."""
        super().__init__(message)
        self.data = data


def read(body: bytes) -> Request | None:
    """The request in a body, or None for anything that is not one of the two, plain and well-formed."""
    try:
        message = orjson.loads(body)
    except ValueError:
        return None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return None
    method, ident, params = message.get("method"), message.get("id"), message.get("params", {})
    if isinstance(ident, bool) or not isinstance(ident, str | int) or not isinstance(params, dict):
        return None
    meta = params.get("_meta", {})
    if not isinstance(meta, dict):
        return None
    if method == "tools/list":
        return Request(ident, method, params, "", {}, meta)
    if method != "tools/call":
        return None
    name, arguments = params.get("name"), params.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return Request(ident, method, params, name, arguments, meta)


async def answer(
    toolbox: Toolbox,
    caller: Caller,
    request: Request,
    *,
    stateless: bool,
    emit: Emit | None = None,
) -> Answer:
    """Answer a request. Raises nothing but CancelledError.

    Args:
        stateless: whether it came in the stateless revision.
        emit: tells the client parts of a result as they come.
    """
    try:
        if request.method == "tools/list":
            found = await listing(toolbox, caller, request.params.get("cursor"))
            extra = {"ttlMs": LIST_FRESH_MS, "cacheScope": "private"}
        else:
            found = await call(toolbox, caller, request.name, request.arguments, emit)
            extra = {}
    except RpcError as error:
        # Only the stateless revision gives this error an HTTP status of its own.
        body = _error(request.ident, INVALID_PARAMS, str(error), error.data)
        return Answer(400 if stateless else 200, body)
    except UhlpError as error:
        return Answer(200, _error(request.ident, INTERNAL_ERROR, f"{error.code}: {error}"))
    except UNAVAILABLE:
        return Answer(200, _error(request.ident, INTERNAL_ERROR, STORE_AWAY))
    except Exception:
        _log.exception("%s failed", request.method, extra={"deployment": caller.deployment})
        return Answer(
            200, _error(request.ident, INTERNAL_ERROR, "the server failed; the platform's log says more")
        )
    if stateless:
        meta = {**found.get("_meta", {}), _PREFIX + "serverInfo": server_info()}
        found = {**found, **extra, "resultType": "complete", "_meta": meta}
    try:
        return Answer(200, orjson.dumps({"jsonrpc": "2.0", "id": request.ident, "result": found}))
    except TypeError as error:
        # Another server's result may hold numbers beyond 64 bits, or nest deeper than is written.
        text = f"the result of {request.name} cannot be written as JSON: {error}"
        return Answer(200, _error(request.ident, INTERNAL_ERROR, text))


async def listing(toolbox: Toolbox, caller: Caller, cursor: object) -> dict[str, Any]:
    """The result of `tools/list`. Raises RpcError, UhlpError, and what UNAVAILABLE lists."""
    if cursor is not None:
        raise RpcError("unknown cursor: all tools come on one page")
    tools = [tool.to_json() async for tool in toolbox.visible(caller)]
    if caller.safe_names:
        tools = [{**tool, "name": safe_name(tool["name"])} for tool in tools]
    return {"tools": tools}


async def call(
    toolbox: Toolbox, caller: Caller, name: str, arguments: dict[str, Any], emit: Emit | None = None
) -> dict[str, Any]:
    """The result of `tools/call`. What goes wrong inside a tool is a result with `isError`, which a model can
    read and mend; raises RpcError for a tool that is not there.
    """
    try:
        found = await toolbox.call(caller, name, arguments, emit)
    except UnknownTool as error:
        raise RpcError(str(error), {"code": error.code}) from None
    except UhlpError as error:
        return _failed(error)
    except UNAVAILABLE:
        return _failed(Unavailable(STORE_AWAY))
    if isinstance(found, Blocks):
        structured = {} if found.structured is None else {"structuredContent": found.structured}
        return {"content": found.content, **structured, "isError": False}
    content = found.structured if isinstance(found, ScriptedContent) else found
    try:
        text = orjson.dumps(content).decode()
    except TypeError as error:
        # Such as what nests deeper than is written.
        return _failed(
            UhlpError(f"the result of {name} cannot be written as JSON: {error}", code="INVALID_OUTPUT")
        )
    return {
        "content": [{"type": "text", "text": text}],
        "structuredContent": content,
        "isError": False,
        **({"_meta": {SCRIPTED_META: True}} if isinstance(found, ScriptedContent) else {}),
    }


def progress(token: str | int, number: int, text: str, *, scripted: bool = False) -> bytes:
    """The notification that tells a part of a result."""
    params: dict[str, Any] = {"progressToken": token, "progress": number, "message": text}
    if scripted:
        params["_meta"] = {SCRIPTED_META: True}
    return orjson.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


@cache
def server_info() -> dict[str, str]:
    """Who we are, in every revision."""
    return {"name": "uhlp", "title": "UHLP", "version": version("uhlp")}


def _failed(error: UhlpError) -> dict[str, Any]:
    details: dict[str, Any] = {"code": error.code}
    if error.retry_after is not None:
        details["retryAfter"] = error.retry_after
    if error.scripted:
        details["scripted"] = True
    return {
        "content": [{"type": "text", "text": f"{error.code}: {error}"}],
        "isError": True,
        "_meta": {ERROR_META: details},
    }


def _error(ident: str | int, code: int, message: str, data: dict[str, Any] | None = None) -> bytes:
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return orjson.dumps({"jsonrpc": "2.0", "id": ident, "error": error})
