"""One session with a server, on the official SDK's client: opened and closed by one task of its own.

The SDK's scopes belong to the task that enters them; calls may come from any other.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from uhlp_core.errors import UhlpError
from uhlp_mcp.community.bounds import TOO_MANY_PARTS, BoundedStream, too_many
from uhlp_mcp.community.connection import Connection
from uhlp_mcp.community.errors import ServerFailed, ServerUnavailable
from uhlp_mcp.community.stdio import StdioTransport
from uhlp_mcp.egress import Egress
from uhlp_mcp.intake import Intake
from uhlp_policies.chain import mapped
from uhlp_state.model import PinnedTool, ToolAnnotations

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams
    from mcp.types import CallToolResult, Tool

    from mcp import Client

START_SECONDS = 30.0
"""Until a server has told its tools; an interpreter that starts for the first time takes some."""

LOOK_SECONDS = 60.0
"""A server's tools are looked at again this often, whether or not it says that they have changed."""

MIN_LOOK_SECONDS = 5.0
"""And no more often than this, however often it says so: a look takes time of all apps' calls."""

MAX_PAGES = 20
"""Of a list of tools."""

MAX_TEXT = 2000
"""Characters of a server's own error that are told."""


# What the SDK logs quotes servers, which may repeat secrets.
logging.getLogger("mcp").setLevel(logging.CRITICAL)


class Session:
    """Talks to one server until it ends, or is closed."""

    def __init__(
        self, connection: Connection, folder: Path, hidden: Path, egress: Egress, intake: Intake
    ) -> None:
        self.connection = connection
        self.version = connection.version()
        self.tools: Mapping[str, PinnedTool] = {}
        """What the server says of its tools at the moment."""
        self.used = time.monotonic()
        self.active = 0
        """Calls under way."""
        self._answered = 0.0
        self._folder = folder
        self._hidden = hidden
        self._egress = egress
        self._intake = intake
        self._client: Client | None = None
        self._stdio: StdioTransport | None = None
        self._changed = asyncio.Event()
        """It says that its tools are others now."""
        self._closing = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether it takes calls."""
        return self._client is not None and not self._closing.is_set() and not self._has_ended

    @property
    def pid(self) -> int | None:
        """Of a program's process."""
        return self._stdio.pid if self._stdio is not None else None

    async def start(self) -> None:
        """Connect, and learn the tools. Raises ServerUnavailable."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owner = asyncio.create_task(self._own(ready))
        try:
            async with asyncio.timeout(START_SECONDS):
                await ready
        except TimeoutError:
            await self.close()
            raise self._unavailable(f"it did not start within {START_SECONDS:g} s") from None
        except asyncio.CancelledError:
            await self.close()
            raise

    async def call(self, tool: str, arguments: dict[str, Any]) -> "CallToolResult":
        """Call a tool. Raises ServerFailed, and ServerUnavailable where the server ended meanwhile."""
        from mcp.shared.exceptions import MCPError
        from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        client = self._client
        assert client is not None, "started"
        began = self.used = time.monotonic()
        self.active += 1
        try:
            result = await client.call_tool(tool, arguments, read_timeout_seconds=self.connection.seconds)
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                if self._answered < began:
                    # Nothing came from it all that time: the next call finds a new one.
                    self._closing.set()
                raise self._failed(
                    f"took more than {self.connection.seconds:g} s", "TOOL_TIMED_OUT"
                ) from None
            if error.code == CONNECTION_CLOSED or self._has_ended:
                self._closing.set()
                raise self._failed(
                    f"ended during the call, and whether it acted is unknown: {self._why(error)}",
                    "MCP_SERVER_ENDED",
                ) from None
            if error.code == TOO_MANY_PARTS:
                raise self._failed(
                    f"gave a result that is not taken: {self._shown(error)}", "INVALID_OUTPUT"
                ) from None
            raise self._failed(f"refused the call: {self._shown(error)}", "MCP_SERVER_FAILED") from None
        except (RuntimeError, ValidationError) as error:
            raise self._failed(
                f"gave a result against its own schema: {self._shown(error)}", "INVALID_OUTPUT"
            ) from None
        finally:
            self.active -= 1
            self.used = time.monotonic()
        self._answered = time.monotonic()
        return result

    async def look(self) -> None:
        """Learn the tools anew. Raises ServerFailed."""
        client = self._client
        assert client is not None, "started"
        try:
            async with asyncio.timeout(START_SECONDS):
                self.tools = await self._list(client)
        except Exception as error:
            raise self._failed(f"did not tell its tools: {self._why(error)}", "MCP_SERVER_FAILED") from None

    async def close(self) -> None:
        """End it, and wait until nothing of it is left."""
        self._closing.set()
        if self._owner is not None:
            try:
                async with asyncio.timeout(START_SECONDS):
                    await asyncio.shield(self._owner)
            except TimeoutError:
                self._owner.cancel()
                await asyncio.gather(self._owner, return_exceptions=True)

    async def _own(self, ready: "asyncio.Future[None]") -> None:
        from mcp.types import ToolListChangedNotification

        from mcp import Client

        async def notice(message: Any) -> None:
            if isinstance(message, ToolListChangedNotification):
                self._changed.set()

        try:
            async with Client(self._bounded(), message_handler=notice, cache=None) as client:
                # The SDK holds a result against the schema that the server told last, in this process: who
                # chooses both can make that take for ever. Results are held against the pins instead.
                client.session.validate_tool_result = _unchecked  # type: ignore[method-assign]
                self.tools = await self._list(client)
                self._client = client
                if not ready.done():
                    ready.set_result(None)
                await self._look_until_closed(client)
        except Exception as error:
            if not ready.done():
                ready.set_exception(self._unavailable(self._why(error)))
        finally:
            self._closing.set()
            self._client = None

    async def _look_until_closed(self, client: "Client") -> None:
        over = [self._closing] if self._stdio is None else [self._closing, self._stdio.ended]
        while True:
            await _any_of(over, MIN_LOOK_SECONDS)
            await _any_of([*over, self._changed], LOOK_SECONDS - MIN_LOOK_SECONDS)
            if any(event.is_set() for event in over):
                return
            self._changed.clear()
            self.tools = await self._list(client)

    async def _list(self, client: "Client") -> dict[str, PinnedTool]:
        """What the server says of its tools, without secrets: it goes into Git and to models.

        A tool that could not be approved is left out, such as one with a secret in its name.
        Raises ServerFailed for more tools than can be approved, and what the SDK raises.
        """
        from mcp.shared.exceptions import MCPError

        found: dict[str, PinnedTool] = {}
        cursor: str | None = None
        count = 0
        for _ in range(MAX_PAGES):
            try:
                page = await client.list_tools(cursor=cursor)
            except MCPError as error:
                if error.code == TOO_MANY_PARTS:
                    raise ServerFailed(error.message) from None
                raise
            count += len(page.tools)
            if why := too_many("tools", count):
                raise ServerFailed(why)
            for tool in page.tools:
                with contextlib.suppress(ValidationError):
                    pinned = _as_pinned(tool).to_json()
                    found[tool.name] = PinnedTool.model_validate(mapped(pinned, self.connection.redacted))
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    @contextlib.asynccontextmanager
    async def _bounded(self) -> "AsyncIterator[TransportStreams]":
        async with self._transport() as (read, write):
            yield BoundedStream(read), write

    def _transport(self) -> "AbstractAsyncContextManager[TransportStreams]":
        if self.connection.program is not None:
            self._stdio = StdioTransport(self.connection, self._folder, self._hidden, self._intake)
            return self._stdio
        return self._http()

    @contextlib.asynccontextmanager
    async def _http(self) -> "AsyncIterator[TransportStreams]":
        from mcp.client.streamable_http import streamable_http_client

        from uhlp_mcp.community.http_client import client as http_client

        async with (
            http_client(self.connection, self._egress, self._intake) as client,
            streamable_http_client(self.connection.url, http_client=client) as streams,
        ):
            yield streams

    @property
    def _has_ended(self) -> bool:
        return self._stdio is not None and self._stdio.ended.is_set()

    def _why(self, error: BaseException) -> str:
        error = _innermost(error)
        # What we refused it for is why it ended.
        if self._has_ended and self._stdio is not None and not isinstance(error, UhlpError):
            return self._stdio.why
        return self._shown(error)

    def _shown(self, error: BaseException) -> str:
        from mcp.shared.exceptions import MCPError
        from mcp.types import PARSE_ERROR

        error = _innermost(error)
        if isinstance(error, ValidationError):
            # Without what it found wrong: cut in its middle, that may show the halves of a secret.
            found = error.errors(include_input=False, include_context=False)
            text = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)
        elif isinstance(error, MCPError) and error.code == PARSE_ERROR:
            # The text is that of such an error again.
            text = "it gave what is no message of the protocol"
        else:
            text = str(error) or type(error).__name__
        return self.connection.redacted(text)[:MAX_TEXT]

    def _unavailable(self, why: str) -> ServerUnavailable:
        return ServerUnavailable(f"{self.connection.label} cannot be used: {why}")

    def _failed(self, what: str, code: str) -> ServerFailed:
        return ServerFailed(f"{self.connection.label} {what}", code=code)


async def _unchecked(name: str, result: "CallToolResult") -> None:
    """In place of the SDK's own check."""


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _any_of(events: Iterable[asyncio.Event], seconds: float) -> None:
    """Wait until one of them is set, or for this long."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _as_pinned(tool: "Tool") -> PinnedTool:
    """Raises ValidationError for a name that cannot be offered."""
    given = tool.annotations
    hints = {
        name: value
        for name in ToolAnnotations.model_fields
        if given is not None and (value := getattr(given, name)) is not None
    }
    return PinnedTool(
        name=tool.name,
        title=tool.title or (given.title if given is not None else None) or "",
        description=tool.description or "",
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=ToolAnnotations(**hints),
    )
