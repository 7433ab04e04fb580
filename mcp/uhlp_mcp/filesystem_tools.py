"""The `core.filesystem.*` tools (specification 5.4): files in the data folder of the caller's deployment."""

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar

from uhlp_core.errors import InvalidInput, Unavailable
from uhlp_core.home import Home
from uhlp_mcp.data_folder import MAX_FILE_BYTES, MAX_PATH, DataFolder
from uhlp_mcp.schema import BOOLEAN, INTEGER, of, text
from uhlp_mcp.tools import Caller, Tool

MAX_CONTENT = 3 * 1024 * 1024
"""Bytes of one read or write; a larger file takes several."""

T = TypeVar("T")

_PATH = text(MAX_PATH, 1, description="Path in the data folder, such as reports/2026.json.")
_ENCODING = {"enum": ["utf-8", "base64"]}


class FilesystemTools:
    """Handlers of the tools."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def tools(self) -> tuple[Tool, ...]:
        return (
            Tool(
                "core.filesystem.readFile",
                "Read a file of this app's data folder, or a part of it.",
                of(
                    {"path": _PATH},
                    {
                        "encoding": _ENCODING,
                        "offset": {"type": "integer", "minimum": 0, "maximum": MAX_FILE_BYTES},
                        "length": {"type": "integer", "minimum": 1, "maximum": MAX_CONTENT},
                    },
                ),
                of({"content": {"type": "string"}, "encoding": _ENCODING, "size": INTEGER}),
                self._read,
                blocking=True,
                read_only=True,
            ),
            Tool(
                "core.filesystem.writeFile",
                "Write a file of this app's data folder as a whole, or append to it.",
                of(
                    {"path": _PATH, "content": text(MAX_CONTENT * 4 // 3 + 4)},
                    {"encoding": _ENCODING, "append": BOOLEAN},
                ),
                of({"success": BOOLEAN, "size": INTEGER}),
                self._write,
                destructive=True,
                blocking=True,
            ),
            Tool(
                "core.filesystem.deleteFile",
                "Delete a file, or an empty folder; success tells whether it was there.",
                of({"path": _PATH}),
                of({"success": BOOLEAN}),
                self._delete,
                blocking=True,
                idempotent=True,
                destructive=True,
            ),
            Tool(
                "core.filesystem.listDirectory",
                "List a folder of this app's data folder; without a path, the data folder itself.",
                of({}, {"path": text(MAX_PATH)}),
                of(
                    {
                        "entries": {
                            "type": "array",
                            "items": of(
                                {
                                    "name": {"type": "string"},
                                    "type": {"enum": ["file", "directory"]},
                                    "size": INTEGER,
                                }
                            ),
                        }
                    }
                ),
                self._list,
                blocking=True,
                read_only=True,
            ),
        )

    async def _read(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        folder, path = self._of(caller), given["path"]
        offset, length = given.get("offset", 0), given.get("length", MAX_CONTENT)
        data, size = await _in_thread(lambda: folder.read(path, offset, length))
        if "length" not in given and offset + len(data) < size:
            raise InvalidInput(
                f"{path} has {size} bytes, more than the {MAX_CONTENT} of one read; read it in parts with "
                "offset and length"
            )
        if given.get("encoding") == "base64":
            return {"content": base64.b64encode(data).decode(), "encoding": "base64", "size": size}
        try:
            return {"content": data.decode(), "encoding": "utf-8", "size": size}
        except UnicodeDecodeError:
            raise InvalidInput(f"{path} is not UTF-8 here; read it with encoding base64") from None

    async def _write(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        content = given["content"]
        if given.get("encoding") == "base64":
            try:
                data = base64.b64decode(content, validate=True)
            except binascii.Error:
                raise InvalidInput("content is not Base64, as encoding says") from None
        else:
            data = content.encode(errors="surrogatepass")
        if len(data) > MAX_CONTENT:
            raise InvalidInput(f"one write has at most {MAX_CONTENT} bytes; append the rest")
        folder, append = self._of(caller), given.get("append", False)
        size = await _in_thread(lambda: folder.write(given["path"], data, append=append))
        return {"success": True, "size": size}

    async def _delete(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        folder = self._of(caller)
        return {"success": await _in_thread(lambda: folder.delete(given["path"]))}

    async def _list(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        folder = self._of(caller)
        entries = await _in_thread(lambda: folder.entries(given.get("path", "")))
        return {
            "entries": [
                {
                    "name": entry.name,
                    "type": "directory" if entry.is_folder else "file",
                    "size": entry.size,
                }
                for entry in entries
            ]
        }

    def _of(self, caller: Caller) -> DataFolder:
        return DataFolder(self._home.data / caller.deployment)


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise Unavailable(f"the data folder cannot be used: {error.strerror}") from None
