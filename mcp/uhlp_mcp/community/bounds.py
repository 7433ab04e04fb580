"""Refuses answers of more parts than are taken, before anything is made of the parts.

The SDK makes objects of all of them, which for the largest message takes this process seconds.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from uhlp_state.model.mcp_servers import MAX_PINNED_TOOLS

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream
    from mcp.shared.message import SessionMessage

MAX_BLOCKS = 1000
"""Blocks of content of one result: no model reads as many."""

TOO_MANY_PARTS = -32019
"""The code of the JSON-RPC error that stands in place of such an answer."""

_MOST = {"tools": MAX_PINNED_TOOLS, "content": MAX_BLOCKS}
"""By the key of a list in a result."""


class BoundedStream:
    """The messages of another stream of the SDK's, with an error in place of each answer that is too much."""

    def __init__(self, stream: "ReadStream[SessionMessage | Exception]") -> None:
        self._stream = stream

    async def receive(self) -> "SessionMessage | Exception":
        return _bounded(await self._stream.receive())

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> "SessionMessage | Exception":
        return _bounded(await self._stream.__anext__())

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(kind, error, trace)


def too_many(key: str, count: int) -> str:
    """Why a list is not taken; empty if it is. `key` is its key in the result."""
    if count <= _MOST[key]:
        return ""
    what = "tools" if key == "tools" else "blocks of content"
    return f"it gave {count} {what}, and at most {_MOST[key]} are taken"


def _bounded(item: "SessionMessage | Exception") -> "SessionMessage | Exception":
    from mcp.shared.message import SessionMessage
    from mcp.types import ErrorData, JSONRPCError, JSONRPCResponse

    if isinstance(item, Exception) or not isinstance(item.message, JSONRPCResponse):
        return item
    for key in _MOST:
        parts = item.message.result.get(key)
        if isinstance(parts, list) and (why := too_many(key, len(parts))):
            error = ErrorData(code=TOO_MANY_PARTS, message=why)
            return SessionMessage(JSONRPCError(jsonrpc="2.0", id=item.message.id, error=error))
    return item
