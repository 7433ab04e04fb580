"""The `community.*` tools of every app: those it has approved, called in the app's own sessions.

What is listed comes from Git, never from a server: its own words reach nobody before they are approved.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from uhlp_core.errors import NotFound, Unavailable
from uhlp_core.store import UNAVAILABLE
from uhlp_mcp.community.errors import ServerFailed
from uhlp_mcp.community.pins import Pins
from uhlp_mcp.community.session import MAX_TEXT
from uhlp_mcp.community.sessions import Sessions
from uhlp_mcp.served import Served
from uhlp_mcp.tools import MAX_NAME, Blocks, Caller, Tool, by_name, safe_name
from uhlp_state.model import PinnedTool
from uhlp_state.model.mcp_servers import PREFIX

if TYPE_CHECKING:
    from mcp.types import CallToolResult

MAX_REMEMBERED = 512
"""Deployments whose tools are kept; those of others are made again from their snapshot."""


class CommunityTools:
    """A source of tools per deployment, made once per commit."""

    def __init__(self, served: Served, sessions: Sessions, pins: Pins) -> None:
        self._served = served
        self._sessions = sessions
        self._pins = pins
        self._made: dict[str, tuple[str, int, Mapping[str, Tool]]] = {}
        """By deployment: the commit and the version of what is held back that they were made of."""

    async def tools(self, caller: Caller) -> Mapping[str, Tool]:
        """The tools of the caller's deployment, those that are held back are not listed."""
        deployment = caller.deployment
        known = self._made.get(deployment)
        try:
            snapshot = await self._served.snapshot(deployment)
        except UNAVAILABLE:
            return known[2] if known is not None else {}
        except Unavailable:
            return {}
        if not snapshot.mcp_pins:
            return {}
        if known is None or known[:2] != (snapshot.commit, self._pins.version):
            if len(self._made) >= MAX_REMEMBERED:
                self._made.clear()
            made = by_name(
                self._tool(deployment, server, pinned)
                for server, tools in snapshot.mcp_pins.items()
                for pinned in tools
            )
            known = self._made[deployment] = (snapshot.commit, self._pins.version, made)
        return known[2]

    def _tool(self, deployment: str, server: str, pinned: PinnedTool) -> Tool:
        async def handler(caller: Caller, given: dict[str, Any]) -> Blocks:
            return await self._call(caller, server, pinned, given)

        name = f"{PREFIX}{server}.{pinned.name}"
        hints = pinned.annotations
        return Tool(
            name if len(name) <= MAX_NAME else safe_name(name),
            pinned.description,
            pinned.input_schema,
            pinned.output_schema,
            handler,
            title=pinned.title,
            read_only=hints.read_only_hint,
            destructive=hints.destructive_hint,
            idempotent=hints.idempotent_hint,
            open_world=hints.open_world_hint,
            listed=not self._pins.held(deployment, server, pinned),
        )

    async def _call(self, caller: Caller, server: str, pinned: PinnedTool, given: dict[str, Any]) -> Blocks:
        deployment = caller.deployment
        snapshot = await self._served.snapshot(deployment)
        if pinned not in snapshot.mcp_pins.get(server, ()):
            raise NotFound(f"{deployment} has no tool {pinned.name} of the MCP server {server} any more")
        async with self._sessions.session(snapshot, deployment, server) as session:
            await self._pins.compare(deployment, server, snapshot.mcp_pins[server], session.tools)
            self._pins.check(deployment, server, pinned)
            result = await session.call(pinned.name, given)
        return _answer(result)


def _answer(result: "CallToolResult") -> Blocks:
    """A result as the server gave it. Raises ServerFailed for one that tells a failure."""
    content = [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in result.content]
    if result.is_error:
        text = "\n".join(part["text"] for part in content if part["type"] == "text")
        raise ServerFailed(text[:MAX_TEXT] or "the tool failed and did not say why", code="TOOL_FAILED")
    return Blocks(content, result.structured_content)
