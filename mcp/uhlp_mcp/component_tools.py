"""The `core.component.*` tools: components that call other components of their app."""

from typing import Any

from uhlp_mcp.invoker import Invoker
from uhlp_mcp.schema import ANY, BOOLEAN, of, text
from uhlp_mcp.tools import Caller, Tool

MAX_ID = 128
"""Characters of a component's id."""

MAX_TIMEOUT_MS = 900_000
"""The longest timeout that a pool may have."""


class ComponentTools:
    """Handlers of the tools."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker

    def tools(self) -> tuple[Tool, ...]:
        return (
            Tool(
                "core.component.invoke",
                "Run another component of this app, whatever its handler type, and return its result.",
                of(
                    {"componentId": text(MAX_ID, 1), "input": ANY},
                    {"timeoutMs": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS}},
                ),
                of({"resultType": text(64), "data": ANY, "scripted": BOOLEAN}),
                self._invoke,
                destructive=True,
                open_world=True,
            ),
        )

    async def _invoke(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        result = await self._invoker.invoke(
            caller, given["componentId"], given["input"], timeout_ms=given.get("timeoutMs")
        )
        return {"resultType": result.type, "data": result.data, "scripted": result.scripted}
