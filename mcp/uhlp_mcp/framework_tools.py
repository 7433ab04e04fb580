"""The `core.framework.*` tools: an app's configuration, and lines in its log."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import orjson

from uhlp_core.app_log import append
from uhlp_core.errors import NotFound, Unavailable
from uhlp_core.home import Home
from uhlp_mcp.schema import ANY, BOOLEAN, of, text
from uhlp_mcp.served import Served
from uhlp_mcp.tools import Caller, InvalidArguments, Tool

MAX_NAME = 256
"""Characters of a configuration key or a component's id."""

MAX_MESSAGE = 16 * 1024
"""Characters of a log message: a traceback fits, a document does not."""

LEVELS = ("debug", "info", "warning", "error", "critical")

_ABSENT = object()


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
                of(
                    {"key": text(MAX_NAME, 1, description="A key, or by dots a value within: llm.provider.")},
                    {"componentId": text(MAX_NAME, 1)},
                ),
                of({"key": text(MAX_NAME), "found": BOOLEAN}, {"value": ANY}),
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
        value = _at(values, key)
        if value is _ABSENT:
            return {"key": key, "found": False}
        return {"key": key, "found": True, "value": value}

    async def _log(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        line = {
            "ts": time.time(),
            "level": given["level"],
            "stream": "framework",
            "app": caller.app,
            "deployment": caller.deployment,
            "instance": caller.instance,
            # What the caller's token says cannot be told otherwise.
            "component": caller.component or given.get("componentId"),
            "requestId": given.get("requestId") or caller.request_id or None,
            "message": given["message"],
        }
        if "details" in given:
            line["details"] = given["details"]
        try:
            encoded = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:
            raise InvalidArguments("details: nested deeper than JSON can be written here") from None
        try:
            await asyncio.to_thread(append, self._home.app_log(caller.app), encoded)
        except OSError as error:
            raise Unavailable(f"the log cannot be written: {error.strerror}") from None
        return {"success": True}


def _at(values: Mapping[str, Any], key: str) -> Any:
    """The value of a key as it is written, else of a path of keys; _ABSENT where there is none."""
    if key in values:
        return values[key]
    first, dot, rest = key.partition(".")
    inner = values.get(first)
    return _at(inner, rest) if dot and isinstance(inner, Mapping) else _ABSENT
