"""An MCP server at an address, on the SDK, that tells which headers came; and one that is no MCP server."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from aiohttp import web
from mcp.server.lowlevel import Server
from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool

ANY: dict[str, Any] = {"type": "object"}
ADD: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
SUM: dict[str, Any] = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
}


def make() -> Any:
    """The server as an ASGI application."""

    async def listing(ctx: Any, params: Any) -> ListToolsResult:
        add = Tool(name="add", description="Adds.", input_schema=ADD, output_schema=SUM)
        return ListToolsResult(tools=[add, Tool(name="headers", description="Tells.", input_schema=ANY)])

    async def call(ctx: Any, params: Any) -> CallToolResult:
        if params.name == "headers":
            text = TextContent(type="text", text=json.dumps(dict(ctx.request.headers)))
            return CallToolResult(content=[text])
        total = {"sum": params.arguments["a"] + params.arguments["b"]}
        return CallToolResult(
            content=[TextContent(type="text", text=json.dumps(total))], structured_content=total
        )

    server = Server("http", on_list_tools=listing, on_call_tool=call)
    return server.streamable_http_app(json_response=True, stateless_http=True)


@asynccontextmanager
async def running() -> AsyncIterator[str]:
    """Its address, while it runs on this loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(make(), log_level="error", access_log=False, lifespan="on"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def answering(response: web.Response) -> AsyncIterator[str]:
    """The address of something that gives one answer to everything."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=response.status, headers=response.headers, body=response.body)

    connections = web.Server(handle)
    server = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    finally:
        server.close()
        await connections.shutdown(0.1)
