"""What this platform does not offer, built on the official SDK and served through our door and bridge.

    python features_server.py LISTENING_DESCRIPTOR HOME

Resources, prompts, sessions and tools that ask the client back: to show that the bridge to the SDK loses
nothing on the way, should the platform ever offer them. Nobody has to log in: the suite cannot.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import uvloop
from aiohttp import web
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

sys.path.insert(0, str(Path(__file__).parent))
import sdk_features

from uhlp_core.settings import Settings
from uhlp_mcp.asgi import AsgiApp, AsgiBridge
from uhlp_mcp.http import read_body
from uhlp_mcp.network import NetworkDoor
from uhlp_mcp.tools import Caller


class Features:
    """In the place of the platform's endpoint: every message goes to the SDK."""

    def __init__(self) -> None:
        self._bridge = AsgiBridge(_manager)

    async def handle(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        return await self._bridge.handle(request, await read_body(request) or b"", {})


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


async def main(descriptor: int, home: Path) -> None:
    door = NetworkDoor(Settings(home_dir=home), Features(), Everybody(), None)
    await door.open(socket.socket(fileno=descriptor))
    print("ready", flush=True)
    await asyncio.Event().wait()


uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
