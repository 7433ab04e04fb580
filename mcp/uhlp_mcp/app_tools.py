"""The `app.*` tools: what the app itself declares in `state/tools/`, answered by its components.

So every app is an MCP server. Its tools are those of the revision that is served.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from uhlp_core.errors import Unavailable
from uhlp_core.store import UNAVAILABLE
from uhlp_mcp.invoker import MAX_DETAILS, CallFailed, Invoker, Result
from uhlp_mcp.served import Served
from uhlp_mcp.tools import Caller, Judge, ScriptedContent, Tool, by_name
from uhlp_state.json_schema.quick_check import compile_quick
from uhlp_state.model import ToolDefinition

MAX_REMEMBERED = 512
"""Deployments whose tools are kept; the tools of others are made again from their snapshot."""


class AppTools:
    """A source of tools per deployment, made once per commit."""

    def __init__(self, served: Served, invoker: Invoker, judge: Judge) -> None:
        self._served = served
        self._invoker = invoker
        self._judge = judge
        self._made: dict[str, tuple[str, Mapping[str, Tool]]] = {}

    async def tools(self, caller: Caller) -> Mapping[str, Tool]:
        """The tools of the caller's deployment; those known last while Redis is away."""
        known = self._made.get(caller.deployment)
        try:
            snapshot = await self._served.snapshot(caller.deployment)
        except UNAVAILABLE:
            return known[1] if known is not None else {}
        except Unavailable:
            return {}
        if known is None or known[0] != snapshot.commit:
            if len(self._made) >= MAX_REMEMBERED:
                self._made.clear()
            made = by_name(_AppTool(tool, self._invoker, self._judge).tool() for tool in snapshot.tools)
            known = self._made[caller.deployment] = (snapshot.commit, made)
        return known[1]


class _AppTool:
    """One declared tool, and how its component's result becomes the tool's."""

    def __init__(self, definition: ToolDefinition, invoker: Invoker, judge: Judge) -> None:
        self._definition = definition
        self._invoker = invoker
        self._judge = judge
        self._conforms = compile_quick(definition.output_schema or {})

    def tool(self) -> Tool:
        definition, hints = self._definition, self._definition.annotations
        return Tool(
            name=definition.full_name,
            title=definition.title,
            description=definition.description,
            input_schema=definition.input_schema,
            output_schema=definition.output_schema,
            handler=self._call,
            read_only=hints.read_only_hint,
            destructive=hints.destructive_hint,
            idempotent=hints.idempotent_hint,
            open_world=hints.open_world_hint,
            judge=self._judge,
        )

    async def _call(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any] | ScriptedContent:
        definition = self._definition
        seconds = definition.timeout_seconds
        timeout_ms = None if seconds is None else max(1, round(seconds * 1000))
        result = await self._invoker.invoke(caller, definition.component, given, timeout_ms=timeout_ms)
        value = _value(result)
        if not self._conforms(value) and (
            wrong := await self._judge(caller.app, definition.output_schema or {}, value)
        ):
            raise CallFailed(
                f"the result of component {definition.component} breaks the tool's outputSchema: {wrong}",
                code="INVALID_OUTPUT",
            )
        # Structured content is an object; a schema asks for one, and without a schema anything goes.
        content = value if isinstance(value, dict) else {"result": value}
        return ScriptedContent(content) if result.scripted else content


def _value(result: Result) -> Any:
    """What a component returned; of an HTTP response its body, read as JSON where it is JSON.

    Raises CallFailed for a response with an error's status.
    """
    if result.type != "httpResponse":
        return result.data
    status, body = result.data["statusCode"], result.data.get("body")
    if status >= 400:
        raise CallFailed(f"the component answered {status}: {str(body)[:MAX_DETAILS]}", code=f"HTTP_{status}")
    if not isinstance(body, str):
        return body
    try:
        return orjson.loads(body)
    except ValueError:
        return body
