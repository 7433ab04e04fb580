"""The MCP daemon's door for the operator's commands (`uhlp mcp`): apps' servers, and what they offer.

A Unix socket in a folder that only the operator may enter; nothing else protects it.

    GET  /servers/<deployment>        {servers: [{server, kind, state, error, retryAfter, pid, isPinned,
                                       tools, held}, …]}
    POST /look/<deployment>/<server>  {tools: [PinnedTool, …], unmatched: [names, …]}: the tools as the server
                                      describes them now, and what the app's filters name that is none of them
"""

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from uhlp_core import sockets
from uhlp_core.errors import NotFound, UhlpError
from uhlp_core.store import UNAVAILABLE
from uhlp_mcp.community.pins import Pins
from uhlp_mcp.community.sessions import Sessions
from uhlp_mcp.protocol import STORE_AWAY
from uhlp_mcp.served import Served
from uhlp_state.model import McpServer, PinnedTool

CLOSE_SECONDS = 1.0


class OperatorDoor:
    """Answers one command at a time per connection."""

    def __init__(self, served: Served, sessions: Sessions, pins: Pins) -> None:
        self._served = served
        self._sessions = sessions
        self._pins = pins
        self._connections = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def open(self, path: Path) -> None:
        """Listen at `path` from now on. Raises OSError."""
        self._path = path
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - left by a daemon that was killed; as quick as binding it
        self._server = await asyncio.get_running_loop().create_unix_server(
            self._connections, sock=sockets.listen_unix(path), backlog=sockets.BACKLOG
        )

    async def close(self) -> None:
        if self._server is not None and self._path is not None:
            self._server.close()
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            await self._connections.shutdown(CLOSE_SECONDS)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        try:
            match [request.method, *request.path.split("/")[1:]]:
                case ["GET", "servers", deployment]:
                    found: dict[str, Any] = {"servers": await self._servers(deployment)}
                case ["POST", "look", deployment, server]:
                    found = await self._look(deployment, server)
                case _:
                    raise NotFound("this door has no such thing")
        except UhlpError as error:
            return _json(409, {"code": error.code, "detail": str(error)})
        except UNAVAILABLE:
            return _json(409, {"code": "UNAVAILABLE", "detail": STORE_AWAY})
        return _json(200, found)

    async def _servers(self, deployment: str) -> list[dict[str, Any]]:
        snapshot = await self._served.governing(deployment)
        return [
            self._told(deployment, name, server, snapshot.mcp_pins.get(name))
            for name, server in sorted(snapshot.definition.mcp_servers.items())
        ]

    def _told(
        self, deployment: str, name: str, server: McpServer, pinned: tuple[PinnedTool, ...] | None
    ) -> dict[str, Any]:
        slot = self._sessions.slot(deployment, name)
        held = [tool.name for tool in pinned or () if self._pins.held(deployment, name, tool)]
        wait = slot.retry_at - time.monotonic()
        return {
            "server": name,
            "kind": "program" if server.command else "address" if server.url else "registers itself",
            "state": slot.state,
            "error": slot.error,
            "retryAfter": round(wait, 1) if slot.error and wait > 0 else None,
            "pid": slot.session.pid if slot.session is not None else None,
            "isPinned": pinned is not None,
            "tools": [tool.name for tool in pinned or () if tool.name not in held],
            "held": held,
        }

    async def _look(self, deployment: str, name: str) -> dict[str, Any]:
        snapshot = await self._served.governing(deployment)
        servers = snapshot.definition.mcp_servers
        if name not in servers:
            listed = ", ".join(sorted(servers)) or "none"
            raise NotFound(f"{deployment} serves no MCP server {name!r}; its mcpServers: {listed}")
        async with self._sessions.session(snapshot, deployment, name) as session:
            await session.look()
            tools = session.tools
            return {
                "tools": [tools[tool].to_json() for tool in sorted(tools)],
                "unmatched": servers[name].unmatched(tools.keys()),
            }


def _json(status: int, document: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(document), content_type="application/json")
