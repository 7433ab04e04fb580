"""The Model Context Protocol over JSON-RPC 2.0, as bytes in and bytes out; knows no transport.

Revision 2025-11-25, tools only, without sessions: every message stands for itself.
"""

import logging
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import orjson

from uhlp_core.errors import UhlpError
from uhlp_core.store import UNAVAILABLE
from uhlp_mcp.tools import Caller, Toolbox, UnknownTool

LATEST = "2025-11-25"
REVISIONS = frozenset({LATEST, "2025-06-18", "2025-03-26"})
"""Revisions whose tools/list and tools/call this server speaks; they differ in nothing that is used here."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send back over HTTP."""

    status: int
    body: bytes = b""
    """Empty for a notification, which nobody answers."""


class RpcError(Exception):
    """Ends a request with a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


async def answer(toolbox: Toolbox, caller: Caller, body: bytes) -> Answer:
    """Answer one message. Never raises."""
    try:
        message = orjson.loads(body)
    except ValueError:
        return Answer(400, _error(None, PARSE_ERROR, "the body is not JSON"))
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return Answer(400, _error(None, INVALID_REQUEST, "expected one JSON-RPC 2.0 message"))
    method, ident, params = message.get("method"), message.get("id"), message.get("params", {})
    if method is None and "id" in message and ("result" in message or "error" in message):
        return Answer(202)  # the answer to a question that this server never asks
    if not isinstance(method, str):
        return Answer(400, _error(None, INVALID_REQUEST, "a request has a method"))
    if "id" not in message:
        return Answer(202)  # notifications, notifications/initialized among them, need nothing here
    if isinstance(ident, bool) or not isinstance(ident, str | int):
        return Answer(400, _error(None, INVALID_REQUEST, "a request's id is a string or an integer"))
    try:
        if not isinstance(params, dict):
            raise RpcError(INVALID_PARAMS, "params must be an object")
        result = await _dispatch(toolbox, caller, method, params)
        return Answer(200, orjson.dumps({"jsonrpc": "2.0", "id": ident, "result": result}))
    except RpcError as error:
        return Answer(200, _error(ident, error.code, str(error)))
    except Exception:
        _log.exception("%s failed", method[:80], extra={"deployment": caller.deployment})
        return Answer(200, _error(ident, INTERNAL_ERROR, "the server failed; its log says more"))


async def _dispatch(toolbox: Toolbox, caller: Caller, method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method == "tools/call":
        return await _call(toolbox, caller, params)
    if method == "tools/list":
        if params.get("cursor") is not None:
            raise RpcError(INVALID_PARAMS, "unknown cursor: all tools come on one page")
        return {"tools": [tool.to_json() async for tool in toolbox.visible(caller)]}
    if method == "ping":
        return {}
    if method == "initialize":
        return _initialize(params)
    raise RpcError(METHOD_NOT_FOUND, f"there is no method {method[:80]!r}")


def _initialize(params: dict[str, Any]) -> dict[str, Any]:
    asked = params.get("protocolVersion")
    if not isinstance(asked, str):
        raise RpcError(INVALID_PARAMS, "initialize needs a protocolVersion")
    return {
        "protocolVersion": asked if asked in REVISIONS else LATEST,
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": {"name": "uhlp", "title": "UHLP core tools", "version": version("uhlp")},
    }


async def _call(toolbox: Toolbox, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
    """What goes wrong inside a tool is a result with `isError`, so that a model can read and mend it."""
    name, arguments = params.get("name"), params.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise RpcError(INVALID_PARAMS, "tools/call needs a name (string) and arguments (object)")
    try:
        found = await toolbox.call(caller, name, arguments)
    except UnknownTool as error:
        raise RpcError(INVALID_PARAMS, str(error)) from None
    except UhlpError as error:
        return _failed(error.code, str(error))
    except UNAVAILABLE:
        return _failed("UNAVAILABLE", "the state store is away at the moment; try again")
    return {
        "content": [{"type": "text", "text": orjson.dumps(found).decode()}],
        "structuredContent": found,
        "isError": False,
    }


def _failed(code: str, message: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": f"{code}: {message}"}], "isError": True}


def _error(ident: str | int | None, code: int, message: str) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": message}})
