"""The `core.framework.*` tools: an app's configuration, and lines in its log."""

import asyncio
import time
from typing import Any

import orjson

from uhlp_core.app_log import append
from uhlp_core.errors import NotFound, Unavailable
from uhlp_core.home import Home
from uhlp_mcp.schema import ANY, BOOLEAN, of, text
from uhlp_mcp.served import Served
from uhlp_mcp.tools import Caller, Tool

MAX_NAME = 256
"""Characters of a configuration key or a component's id."""

MAX_MESSAGE = 16 * 1024
"""Characters of a log message: a traceback fits, a document does not."""

LEVELS = ("debug", "info", "warning", "error", "critical")


class FrameworkTools:
    """Handlers of the tools."""

    def __init__(self, home: Home, served: Served) -> None:
        self._home = home
        self._served = served

    def tools(self) -> tuple[Tool, ...]:
        return (
            Tool(
                "core.framework.getConfigValue",
                "Read a configuration value of this app; with componentId, as that component sees it.",
                of({"key": text(MAX_NAME, 1)}, {"componentId": text(MAX_NAME, 1)}),
                of({"found": BOOLEAN}, {"value": ANY}),
                self._config,
                read_only=True,
            ),
            Tool(
                "core.framework.logFrameworkMessage",
                "Write a line to this app's log.",
                of(
                    {"level": {"enum": list(LEVELS)}, "message": text(MAX_MESSAGE)},
                    {
                        "componentId": text(MAX_NAME, 1),
                        "requestId": text(128, 1, pattern="^[A-Za-z0-9._:-]+$"),
                        "details": {"type": "object"},
                    },
                ),
                of({"success": BOOLEAN}),
                self._log,
                blocking=True,
            ),
        )

    async def _config(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        snapshot = await self._served.snapshot(caller.deployment)
        component = given.get("componentId")
        if component is None:
            values = snapshot.definition.configuration
        else:
            try:
                values = snapshot.component_configuration(component)
            except KeyError:
                raise NotFound(f"{caller.app} has no component {component!r}") from None
        key = given["key"]
        return {"found": True, "value": values[key]} if key in values else {"found": False}

    async def _log(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        line = {
            "ts": time.time(),
            "level": given["level"],
            "stream": "framework",
            "app": caller.app,
            "deployment": caller.deployment,
            "instance": caller.instance,
            "component": given.get("componentId"),
            "requestId": given.get("requestId"),
            "message": given["message"],
        }
        if "details" in given:
            line["details"] = given["details"]
        encoded = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        try:
            await asyncio.to_thread(append, self._home.app_log(caller.app), encoded)
        except OSError as error:
            raise Unavailable(f"the log cannot be written: {error.strerror}") from None
        return {"success": True}
