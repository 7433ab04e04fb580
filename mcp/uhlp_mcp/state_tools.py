"""The `core.state.*` tools for runtime values, and those that read definition files, at the revision served.

Thin on purpose: the rules (name spaces, limits, paths) are the state manager's. What is added here is whose
state it is, which follows from the caller and from nothing else.
"""

from typing import Any

from uhlp_mcp.schema import ANY, BOOLEAN, INTEGER, of, text
from uhlp_mcp.served import Served
from uhlp_mcp.tools import Caller, Tool
from uhlp_state.runtime_state import MAX_KEY_BYTES, MAX_TTL_SECONDS
from uhlp_state.state_manager import StateManager

MAX_PATH = 1024
"""Characters of a path in a repo or in a document."""

_KEY = text(MAX_KEY_BYTES, 1, description="Name of the value, in the app's own name space.")
_TTL = {
    "type": "integer",
    "minimum": 1,
    "maximum": MAX_TTL_SECONDS,
    "description": "Seconds after which the value goes by itself; without it, it stays.",
}
PATH = text(MAX_PATH, 1, description="Path relative to the app's state root, such as prompts/hello.yaml.")
_FOLDER = text(MAX_PATH, description="Folder relative to the app's state root; empty for the root.")
_REVISION = text(256, 1, description="A commit or branch of this app; by default what is served.")
_FOUND = of({"found": BOOLEAN}, {"value": ANY})
_ENTRY = of({"path": {"type": "string"}, "type": {"enum": ["file", "directory"]}})
_SUCCESS = of({"success": BOOLEAN})


class StateTools:
    """Handlers of the tools, over one state manager."""

    def __init__(self, manager: StateManager, served: Served) -> None:
        self._manager = manager
        self._served = served

    def tools(self) -> tuple[Tool, ...]:
        return (
            Tool(
                "core.state.getRuntimeValue",
                "Read a runtime value of this app.",
                of({"key": _KEY}),
                _FOUND,
                self._get,
                read_only=True,
            ),
            Tool(
                "core.state.setRuntimeValue",
                "Set a runtime value of this app (any JSON), for ever or for ttlSeconds.",
                of({"key": _KEY, "value": ANY}, {"ttlSeconds": _TTL}),
                _SUCCESS,
                self._set,
                idempotent=True,
                destructive=True,
            ),
            Tool(
                "core.state.deleteRuntimeValue",
                "Delete a runtime value of this app; success tells whether it was there.",
                of({"key": _KEY}),
                _SUCCESS,
                self._delete,
                idempotent=True,
                destructive=True,
            ),
            Tool(
                "core.state.incrementRuntimeValue",
                "Add to a whole number in one step and return the sum; a missing value counts as 0.",
                of({"key": _KEY}, {"amount": INTEGER, "ttlSeconds": _TTL}),
                of({"value": INTEGER}),
                self._increment,
            ),
            Tool(
                "core.state.getDefinitionFileContent",
                "Read a definition file of this app.",
                of({"filePath": PATH}, {"revision": _REVISION}),
                of({"found": BOOLEAN, "content": {"type": ["string", "null"]}, "revision": text(64)}),
                self._file,
                blocking=True,
                read_only=True,
            ),
            Tool(
                "core.state.listDefinitionDirectory",
                "List files and folders of this app's definition.",
                of({}, {"directoryPath": _FOLDER, "recursive": BOOLEAN, "revision": _REVISION}),
                of({"entries": {"type": "array", "items": _ENTRY}, "revision": text(64)}),
                self._directory,
                blocking=True,
                read_only=True,
            ),
            Tool(
                "core.state.getStateValue",
                "Read one value inside a YAML or JSON definition file, by a path such as a.b[0].c.",
                of({"filePath": PATH, "valuePath": text(MAX_PATH)}, {"revision": _REVISION}),
                of({"found": BOOLEAN, "value": ANY, "revision": text(64)}),
                self._value,
                blocking=True,
                read_only=True,
            ),
        )

    async def _get(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return (await self._manager.get_runtime_value(caller.deployment, given["key"])).to_json()

    async def _set(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        await self._manager.set_runtime_value(
            caller.deployment, given["key"], given["value"], ttl_seconds=given.get("ttlSeconds")
        )
        return {"success": True}

    async def _delete(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return {"success": await self._manager.delete_runtime_value(caller.deployment, given["key"])}

    async def _increment(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        total = await self._manager.increment_runtime_value(
            caller.deployment, given["key"], given.get("amount", 1), ttl_seconds=given.get("ttlSeconds")
        )
        return {"value": total}

    async def _file(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        revision = await self._revision(caller, given)
        found = await self._manager.get_definition_file_content(caller.app, given["filePath"], revision)
        return found.to_json()

    async def _directory(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        revision = await self._revision(caller, given)
        found = await self._manager.list_definition_directory(
            caller.app, given.get("directoryPath", ""), given.get("recursive", False), revision
        )
        return found.to_json()

    async def _value(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        revision = await self._revision(caller, given)
        found = await self._manager.get_state_value(
            caller.app, given["filePath"], given["valuePath"], revision
        )
        return found.to_json()

    async def _revision(self, caller: Caller, given: dict[str, Any]) -> str:
        asked: str | None = given.get("revision")
        return asked or (await self._served.snapshot(caller.deployment)).commit
