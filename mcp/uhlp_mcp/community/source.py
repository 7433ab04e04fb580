"""The `community.*` tools of every app: those it has approved, called in the app's own sessions.

What is listed comes from Git, never from a server: its own words reach nobody before they are approved.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from uhlp_core.errors import NotFound, Unavailable
from uhlp_core.store import UNAVAILABLE
from uhlp_mcp.blocks import Blocks
from uhlp_mcp.community.connection import Connection
from uhlp_mcp.community.errors import ServerFailed
from uhlp_mcp.community.pins import Pins
from uhlp_mcp.community.session import MAX_TEXT
from uhlp_mcp.community.sessions import Sessions
from uhlp_mcp.served import Served
from uhlp_mcp.tools import MAX_NAME, Caller, Judge, Tool, by_name, safe_name
from uhlp_policies.chain import mapped
from uhlp_state.json_schema.quick_check import compile_quick
from uhlp_state.model import PinnedTool
from uhlp_state.model.mcp_servers import PREFIX

if TYPE_CHECKING:
    from mcp.types import CallToolResult

MAX_REMEMBERED = 512
"""Deployments whose tools are kept; those of others are made again from their snapshot."""


class CommunityTools:
    """A source of tools per deployment, made once per commit."""

    def __init__(self, served: Served, sessions: Sessions, pins: Pins, judge: Judge) -> None:
        self._served = served
        self._judge = judge
        self._sessions = sessions
        self._pins = pins
        self._made: dict[str, tuple[str, int, Mapping[str, Tool]]] = {}
        """By deployment: the commit and the version of what is held back that they were made of."""

    async def tools(self, caller: Caller) -> Mapping[str, Tool]:
        """The tools of the caller's deployment, those that are held back are not listed."""
        deployment = caller.deployment
        known = self._made.get(deployment)
        try:
            snapshot = await self._served.governing(deployment)
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

    async def hint(self, caller: Caller, name: str) -> str:
        """What to do where a tool is missing because nothing of its server is approved; else empty."""
        try:
            snapshot = await self._served.governing(caller.deployment)
        except (*UNAVAILABLE, Unavailable):
            return ""
        unapproved = snapshot.definition.mcp_servers.keys() - snapshot.mcp_pins.keys()
        for server in sorted(unapproved, key=len, reverse=True):  # `a.b` before `a`
            prefix = f"{PREFIX}{server}."
            for written in (prefix, prefix.replace(".", "__")):
                if name.startswith(written) and caller.may_use(prefix + name.removeprefix(written)):
                    return f"nothing of {server} is approved: `uhlp mcp pin {caller.app} {server}`"
        return ""

    def _tool(self, deployment: str, server: str, pinned: PinnedTool) -> Tool:
        conforms = compile_quick(pinned.output_schema or {})

        async def handler(caller: Caller, given: dict[str, Any]) -> Blocks:
            return await self._call(caller, server, pinned, conforms, given)

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
            judge=self._judge,
        )

    async def _call(
        self,
        caller: Caller,
        server: str,
        pinned: PinnedTool,
        conforms: Callable[[Any], bool],
        given: dict[str, Any],
    ) -> Blocks:
        deployment = caller.deployment
        snapshot = await self._served.governing(deployment)
        if pinned not in snapshot.mcp_pins.get(server, ()):
            raise NotFound(f"{deployment} has no tool {pinned.name} of the MCP server {server} any more")
        async with self._sessions.session(snapshot, deployment, server) as session:
            self._pins.compare(deployment, server, snapshot.mcp_pins[server], session.tools)
            self._pins.check(deployment, server, pinned)
            result = await session.call(pinned.name, given)
            answer = _answer(result, session.connection)
        if not conforms(answer.structured) and (
            wrong := await self._judge(caller.app, pinned.output_schema or {}, answer.structured)
        ):
            raise ServerFailed(
                f"{session.connection.label} gave a result against its own schema: {wrong}",
                code="INVALID_OUTPUT",
            )
        return answer


def _answer(result: "CallToolResult", connection: Connection) -> Blocks:
    """A result as the server gave it, but for its secrets. Raises ServerFailed where it tells a failure."""
    content = [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in result.content]
    if result.is_error:
        text = connection.redacted("\n".join(part["text"] for part in content if part["type"] == "text"))
        raise ServerFailed(text[:MAX_TEXT] or "the tool failed and did not say why", code="TOOL_FAILED")
    if connection.secrets:
        return Blocks(
            mapped(content, connection.redacted), mapped(result.structured_content, connection.redacted)
        )
    return Blocks(content, result.structured_content)
