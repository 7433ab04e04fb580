"""Servers of others in an app's definition: committed, looked at, approved, as tests of the daemon do it."""

import json
import os
from collections.abc import Mapping
from typing import Any

from state.apps import DEFINITION, app
from support.mcp_office import Office
from uhlp_core.unix_http import connect, message
from uhlp_state.model import AllowedMcpServer, McpPins, McpServer, PinnedTool
from uhlp_state.model.mcp_servers import PINS
from uhlp_state.platform import PlatformDefinition
from uhlp_state.problems import Problem
from uhlp_state.validate import validate


async def ask(office: Office, method: str, target: str) -> tuple[int, Any]:
    """Through the operator's door."""
    connection = await connect(str(office.settings.home.mcp_socket))
    try:
        reply = await connection.request(message(method, target, b""))
    finally:
        connection.close()
    return reply.status, json.loads(reply.body)


async def look(office: Office, name: str, deployment: str = "alpha") -> tuple[PinnedTool, ...]:
    """What the server says of its tools."""
    code, found = await ask(office, "POST", f"/look/{deployment}/{name}")
    assert code == 200, found
    return tuple(PinnedTool.model_validate(tool) for tool in found["tools"])


async def status(office: Office, deployment: str = "alpha") -> dict[str, Any]:
    """Of the one server that there is."""
    found = (await ask(office, "GET", f"/servers/{deployment}"))[1]["servers"]
    assert len(found) == 1
    told: dict[str, Any] = found[0]
    return told


async def serve(
    office: Office,
    name: str,
    server: Mapping[str, Any],
    program: AllowedMcpServer | None = None,
    *,
    deployment: str = "alpha",
    pins: tuple[PinnedTool, ...] | None = None,
    **more: Any,
) -> None:
    """As a commit would that names the server, and has these tools pinned."""
    offers = McpServer.model_validate(server).offers
    pinned = None if pins is None else tuple(tool for tool in pins if offers(tool.name))
    await office.publish(
        deployment,
        commit=os.urandom(20).hex(),
        mcpServers={name: server},
        mcp_programs={} if program is None else {server["command"]: program},
        mcp_pins={} if pinned is None else {name: pinned},
        **more,
    )


async def approve(
    office: Office,
    name: str,
    server: Mapping[str, Any],
    program: AllowedMcpServer | None = None,
    *,
    deployment: str = "alpha",
) -> tuple[PinnedTool, ...]:
    """Name the server, look at it, pin all that it offers, as a push would let it through."""
    await serve(office, name, server, program, deployment=deployment)
    pins = await look(office, name, deployment)
    assert problems(name, server, program, pins) == ()
    await serve(office, name, server, program, deployment=deployment, pins=pins)
    return pins


def problems(
    name: str, server: Mapping[str, Any], program: AllowedMcpServer | None, pins: tuple[PinnedTool, ...]
) -> tuple[Problem, ...]:
    """What a push of the server and its pins would be refused for."""
    platform = PlatformDefinition(allowed_mcp_servers={} if program is None else {server["command"]: program})
    tree = app(
        {
            "state/app_definition.yaml": f"{DEFINITION}mcpServers: {json.dumps({name: server})}\n",
            f"{PINS}{name}.json": json.dumps(McpPins(tools=pins).to_json()),
        }
    )
    return validate(tree, "demo", platform=platform).problems


async def names(office: Office, instance: str = "a0") -> list[str]:
    """The tools of others that an instance is shown."""
    listed = (await office.rpc(instance, "tools/list"))["result"]["tools"]
    return [tool["name"] for tool in listed if tool["name"].startswith("community.")]


async def text(office: Office, tool: str, /, instance: str = "a0", **arguments: Any) -> str:
    """The text of a call that must succeed."""
    answer = await office.rpc(instance, "tools/call", {"name": f"community.{tool}", "arguments": arguments})
    assert answer["result"]["isError"] is False, answer
    told: str = answer["result"]["content"][0]["text"]
    return told
