"""The two sides of `mcp_tools_call`: the same tool behind our door, and on the SDK's low-level server.

    python -m benchmarks.mcp_servers ours|sdk PORT HOME

Ours checks a signed token, Host, Origin, headers against the body, and the arguments; the SDK's checks the
headers, and has its input schema looked up in the fast way.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import uvloop

from uhlp_core import store
from uhlp_core.settings import Settings
from uhlp_core.sockets import listen_tcp
from uhlp_core.tokens import TokenKey

NAME = "app.add"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
RESULT: dict[str, Any] = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
}


async def ours(port: int, home: Path) -> None:
    from uhlp_mcp.access import Access
    from uhlp_mcp.bearers import Bearers
    from uhlp_mcp.community.registrations import Registrations
    from uhlp_mcp.egress import Egress
    from uhlp_mcp.http import Endpoint
    from uhlp_mcp.network import NetworkDoor
    from uhlp_mcp.sdk import SdkServer
    from uhlp_mcp.served import Served
    from uhlp_mcp.tools import Caller, Tool, Toolbox

    async def add(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return {"sum": given["a"] + given["b"]}

    settings = Settings(home_dir=home)
    redis = store.connect(settings)
    served = Served(redis)
    toolbox = Toolbox.of([Tool(NAME, "Adds.", SCHEMA, RESULT, add)])
    access = Access(settings, served, Bearers(TokenKey.of(settings.home)))
    registrations = Registrations(redis, served, Egress(private_addresses=False))
    door = NetworkDoor(settings, Endpoint(toolbox, SdkServer(toolbox)), access, registrations)
    await door.open(listen_tcp("127.0.0.1", port))
    await asyncio.Event().wait()


async def sdk(port: int) -> None:
    import uvicorn
    from mcp.server.lowlevel import Server
    from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool

    async def listing(ctx: Any, params: Any) -> ListToolsResult:
        tool = Tool(name=NAME, description="Adds.", input_schema=SCHEMA, output_schema=RESULT)
        return ListToolsResult(tools=[tool])

    async def call(ctx: Any, params: Any) -> CallToolResult:
        total = params.arguments["a"] + params.arguments["b"]
        text = TextContent(type="text", text=f'{{"sum":{total}}}')
        return CallToolResult(content=[text], structured_content={"sum": total})

    server = Server(
        "bare", on_list_tools=listing, on_call_tool=call, get_tool_input_schema=lambda name: SCHEMA
    )
    app = server.streamable_http_app(json_response=True, stateless_http=True)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", access_log=False)
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    side, number, folder = sys.argv[1:]
    uvloop.run(ours(int(number), Path(folder)) if side == "ours" else sdk(int(number)))
