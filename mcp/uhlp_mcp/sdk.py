"""The official SDK behind the doors: the handshake, discovery, and every request that is not plain.

Importing it takes most of a second and tens of megabytes, so that happens when the first such request comes.
It keeps no sessions: a client never notices that the daemon was started again.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

from uhlp_mcp import protocol
from uhlp_mcp.asgi import AsgiApp, AsgiBridge
from uhlp_mcp.tools import Caller, Toolbox

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams

    Context = ServerRequestContext[Any]

INSTRUCTIONS = (
    "Tools of one application on this UHLP platform. app.* are its own, core.* its state, configuration and "
    "language models, community.* those of servers that it uses. All of them act as that application and see "
    "nothing of others."
)


class SdkServer:
    """Answers as the SDK does, with the tools of a toolbox."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._bridge = AsgiBridge(self._make)

    async def handle(self, request: web.BaseRequest, body: bytes, caller: Caller) -> web.StreamResponse:
        """The SDK's answer to a request."""
        return await self._bridge.handle(request, body, {"caller": caller})

    async def close(self) -> None:
        """End what was started."""
        await self._bridge.close()

    def _make(self) -> AbstractAsyncContextManager[AsgiApp]:
        from mcp.server.caching import CacheHint
        from mcp.server.lowlevel import Server
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        who = protocol.server_info()
        server = Server(
            who["name"],
            version=who["version"],
            title=who["title"],
            instructions=INSTRUCTIONS,
            cache_hints={"tools/list": CacheHint(protocol.LIST_FRESH_MS, "private")},
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        # Host and Origin have been checked at the door.
        manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)

        @asynccontextmanager
        async def life() -> AsyncIterator[AsgiApp]:
            async with manager.run():
                yield manager.handle_request

        return life()

    async def _list(self, ctx: "Context", params: "PaginatedRequestParams | None") -> "ListToolsResult":
        from mcp.types import ListToolsResult

        cursor = params.cursor if params is not None else None
        found = await protocol.listing(self._toolbox, _caller(ctx), cursor)
        return ListToolsResult.model_validate(found)

    async def _call(self, ctx: "Context", params: "CallToolRequestParams") -> "CallToolResult":
        from mcp.shared.exceptions import MCPError
        from mcp.types import CallToolResult

        try:
            found = await protocol.call(self._toolbox, _caller(ctx), params.name, params.arguments or {})
        except protocol.RpcError as error:
            raise MCPError(protocol.INVALID_PARAMS, str(error), error.data) from None
        return CallToolResult.model_validate(found)


def _caller(ctx: "Context") -> Caller:
    """Who calls."""
    assert ctx.request is not None
    caller: Caller = ctx.request.scope["state"]["caller"]
    return caller
