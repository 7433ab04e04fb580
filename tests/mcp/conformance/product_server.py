"""The platform's own MCP server as people's clients meet it, for the conformance suite to be let loose on.

    python product_server.py LISTENING_DESCRIPTOR HOME

Door, login, endpoint and the SDK behind it are the product's, put together as `uhlp_mcp.server` does; only
the tools are the suite's. It cannot log in, so what listens adds a token to every request and passes it on.
"""

import asyncio
import socket
import sys
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent))
import suite_tools

from uhlp_core import store
from uhlp_core.settings import Settings
from uhlp_core.sockets import listen_tcp
from uhlp_core.tokens import Claims, TokenKey
from uhlp_mcp.access import Access
from uhlp_mcp.bearers import Bearers
from uhlp_mcp.community.registrations import Registrations
from uhlp_mcp.egress import Egress
from uhlp_mcp.http import Endpoint
from uhlp_mcp.network import NetworkDoor
from uhlp_mcp.sdk import SdkServer
from uhlp_mcp.served import Served
from uhlp_mcp.tools import Toolbox

TOKEN_SECONDS = 3600.0

OF_ONE_CONNECTION = frozenset({b"connection", b"content-length", b"transfer-encoding"})
"""Headers that each side of a proxy writes anew."""


class LoggedIn:
    """Passes requests on as they are, with a token."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._url = url
        self._token = ("Authorization", f"Bearer {token}")

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = [
            (name.decode(), value.decode())
            for name, value in request.raw_headers
            if name.lower() not in OF_ONE_CONNECTION
        ]
        async with self._session.request(
            request.method,
            self._url + request.raw_path,
            data=await request.read(),
            headers=[*headers, self._token],
            skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(
                status=answer.status,
                headers=[
                    (name, value)
                    for name, value in answer.headers.items()
                    if name.lower().encode() not in OF_ONE_CONNECTION
                ],
            )
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


def door(settings: Settings) -> NetworkDoor:
    """The product's door. Nothing that the suite asks needs the state store."""
    served = Served(store.connect(settings))
    toolbox = Toolbox.of(suite_tools.TOOLS)
    bearers = Bearers(TokenKey.of(settings.home))
    egress = Egress(private_addresses=False)
    return NetworkDoor(
        settings,
        Endpoint(toolbox, SdkServer(toolbox)),
        Access(settings, served, bearers),
        Registrations(store.connect(settings), served, egress),
    )


async def main(descriptor: int, home: Path) -> None:
    settings = Settings(home_dir=home, redis="unix:///nonexistent")
    settings.home.create()
    token = TokenKey.of(settings.home).sign(Claims("suite", "suite"), TOKEN_SECONDS)
    listener = listen_tcp("127.0.0.1", 0)
    await door(settings).open(listener)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        logged_in = LoggedIn(session, f"http://127.0.0.1:{listener.getsockname()[1]}", token)
        server = await asyncio.get_running_loop().create_server(
            web.Server(logged_in, access_log=None), sock=socket.socket(fileno=descriptor)
        )
        print("ready", flush=True)
        await server.serve_forever()


uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
