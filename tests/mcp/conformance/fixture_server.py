"""The server that the conformance suite is let loose on: our door, our endpoint, and a toolbox of its own.

    python fixture_server.py LISTENING_DESCRIPTOR

Tools that answer are ours. What this platform does not offer (tools that ask the client back, resources,
prompts) is built on the SDK and served through our bridge, with sessions, to show that nothing is lost on the
way. Nobody has to log in: the suite cannot.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

sys.path.insert(0, str(Path(__file__).parent))
import sdk_features

from uhlp_core.errors import UhlpError
from uhlp_core.settings import Settings
from uhlp_mcp.asgi import AsgiApp, AsgiBridge
from uhlp_mcp.http import Endpoint, read_body
from uhlp_mcp.network import NetworkDoor
from uhlp_mcp.tools import Caller, Emit, Tool, Toolbox

ADDRESS = {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}
DIALECT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", **ADDRESS}},
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
ANYTHING: dict[str, Any] = {"type": "object"}


async def simple(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    return {"text": "This is a simple text response for testing."}


async def fails(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    raise UhlpError("This tool intentionally returns an error for testing")


async def progress(caller: Caller, given: dict[str, Any], emit: Emit) -> dict[str, Any]:
    for step in (0, 50, 100):
        await emit(f"{step} of 100")
    return {"steps": 3}


OURS = (
    Tool("test_simple_text", "Text.", NOTHING, ANYTHING, simple),
    Tool("test_error_handling", "An error.", NOTHING, ANYTHING, fails),
    Tool("test_tool_with_progress", "Progress.", NOTHING, ANYTHING, simple, streaming=progress),
    Tool("json_schema_2020_12_tool", "Tool with JSON Schema 2020-12 features", DIALECT, ANYTHING, simple),
)


class Sdk:
    """What is left to the SDK, behind our bridge."""

    def __init__(self) -> None:
        self._bridge = AsgiBridge(_manager)

    async def handle(self, request: web.BaseRequest, body: bytes, caller: Caller) -> web.StreamResponse:
        return await self._bridge.handle(request, body, {})


class Router:
    """Sends the SDK what is the SDK's, by the tool's name; everything else goes the usual way."""

    def __init__(self, sdk_tools: list[Tool]) -> None:
        self._names = {tool.name for tool in sdk_tools}
        self._sdk = Sdk()
        self._endpoint = Endpoint(Toolbox.of([*OURS, *sdk_tools]), self._sdk)

    async def handle(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        body = await read_body(request) or b""
        if request.method != "POST" or self._calls_sdk(body):
            return await self._sdk.handle(request, body, caller)
        return await self._endpoint.answer(request, body, caller)

    def _calls_sdk(self, body: bytes) -> bool:
        try:
            message = orjson.loads(body)
            return message["method"] == "tools/call" and message["params"]["name"] in self._names
        except (ValueError, KeyError, TypeError):
            return False


class Everybody:
    """Lets everybody in."""

    async def caller(self, target: str, credential: str) -> Caller:
        return Caller("conformance", "conformance")


def _manager() -> AbstractAsyncContextManager[AsgiApp]:
    manager = StreamableHTTPSessionManager(sdk_features.build()._lowlevel_server)

    @asynccontextmanager
    async def life() -> AsyncIterator[AsgiApp]:
        async with manager.run():
            yield manager.handle_request

    return life()


async def main(descriptor: int) -> None:
    declared = await sdk_features.build().list_tools()
    tools = [Tool(one.name, one.description or "", one.input_schema, None, simple) for one in declared]
    router = Router(tools)
    door = NetworkDoor(Settings(home_dir=Path("/nonexistent")), router, Everybody(), None)
    await door.open(socket.socket(fileno=descriptor))
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1])))
