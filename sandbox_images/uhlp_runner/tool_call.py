"""Calls of MCP tools from the runner's event loop, over `mcp.sock`: plain, or with their progress.

One call at a time on a connection, which is closed to cancel the call and kept when it was answered.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from . import failure
from .failure import Failure

RESPONSE_BYTES = 16 << 20
"""Of a whole answer: a completion, as text and parsed, with room."""

Emit = Callable[[str, bool], Awaitable[None]]
"""Passes on one piece of progress, and whether it is scripted: written by no language model."""

KEPT_CONNECTIONS = 16
KEPT_SECONDS = 30.0
"""Less than the server keeps a connection that is not used."""

START_SECONDS = 3.0
"""For the server's door, which opens a moment after the instance, and again when the server was restarted."""

ERROR_META = "uhlp/error"
"""In `_meta` of a failed result: {code, retryAfter?, scripted?}; its text is `<code>: <message>`."""

SCRIPTED_META = "uhlp/scripted"
"""In `_meta` of progress."""


@dataclass(frozen=True, slots=True)
class Server:
    """The MCP server as a request's context names it, and on whose behalf it is called."""

    endpoint: str
    token: str | None
    request_id: str

    @property
    def path(self) -> str:
        """The socket's."""
        path = self.endpoint.removeprefix("unix:")
        return path[2:] if path.startswith("//") else path


_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Tools:
    """Calls tools."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, str, _Connection]] = []
        """Connections that are not used, with when and to which socket they were last."""

    async def call(
        self, server: Server, name: str, arguments: dict[str, Any], emit: Emit | None = None
    ) -> dict[str, Any]:
        """The tool's structured content. With `emit` the call streams: its progress messages go there.

        Raises Failure with the tool's own code, or LLM_UNAVAILABLE where nobody answers sensibly.
        """
        try:
            reader, writer = self._take(server.path) or await _connect(server.path)
        except OSError as error:
            raise _unavailable(f"{server.endpoint or 'no mcp_endpoint'}: {error}") from None
        is_over = False
        try:
            writer.write(_request(server, name, arguments, is_streaming=emit is not None))
            status, headers = await _head(reader)
            if headers.get("content-type", "").startswith("text/event-stream"):
                answer = await _last_event(_lines(reader, headers), emit)
            else:
                answer = json.loads(b"".join([part async for part in _body(reader, headers)]))
                is_over = "content-length" in headers and headers.get("connection") != "close"
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise _unavailable(f"{name}: {str(error) or type(error).__name__}") from None
        finally:
            if is_over and len(self._kept) < KEPT_CONNECTIONS:
                self._kept.append((time.monotonic(), server.path, (reader, writer)))
            else:
                writer.close()
        return _content(name, status, answer)

    def close(self) -> None:
        """Close what is kept."""
        while self._kept:
            self._kept.pop()[2][1].close()

    def _take(self, path: str) -> _Connection | None:
        """A kept connection that still serves."""
        while self._kept:
            since, its_path, (reader, writer) = self._kept.pop()
            if its_path == path and time.monotonic() - since < KEPT_SECONDS and not reader.at_eof():
                return reader, writer
            writer.close()
        return None


async def _connect(path: str) -> _Connection:
    until = time.monotonic() + (START_SECONDS if path else 0)
    while True:
        try:
            return await asyncio.open_unix_connection(path)
        except (FileNotFoundError, ConnectionRefusedError, PermissionError, BlockingIOError):
            if time.monotonic() >= until:
                raise
        await asyncio.sleep(0.02)


def _request(server: Server, name: str, arguments: dict[str, Any], *, is_streaming: bool) -> bytes:
    params: dict[str, Any] = {"name": name, "arguments": arguments}
    if is_streaming:
        params["_meta"] = {"progressToken": 1}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    authorization = f"Authorization: Bearer {server.token}\r\n" if server.token else ""
    head = (
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nX-Request-ID: {server.request_id}\r\n"
        f"{authorization}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split(" ")[1]), headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """The pieces of a body, however it is framed, RESPONSE_BYTES at most."""
    received = 0
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            received += size
            _check_size(received)
            yield await reader.readexactly(size)
            await reader.readexactly(2)
    elif "content-length" in headers:
        _check_size(int(headers["content-length"]))
        yield await reader.readexactly(int(headers["content-length"]))
    else:
        while part := await reader.read(1 << 16):
            received += len(part)
            _check_size(received)
            yield part


def _check_size(size: int) -> None:
    if size > RESPONSE_BYTES:
        raise ValueError(f"the answer is larger than {RESPONSE_BYTES} bytes")


async def _lines(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    rest = b""
    async for part in _body(reader, headers):
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r")


async def _last_event(lines: AsyncIterator[bytes], emit: Emit | None) -> Any:
    """Pass on the progress; the JSON-RPC answer that ends the stream. Raises ValueError without one."""
    data: list[bytes] = []
    async for line in lines:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            message = json.loads(b"\n".join(data))
            data = []
            if "id" in message:
                return message
            if emit is not None and message.get("method") == "notifications/progress":
                params = message["params"]
                if text := params.get("message"):
                    await emit(text, (params.get("_meta") or {}).get(SCRIPTED_META) is True)
    raise ValueError("the stream ended before the answer")


def _content(name: str, status: int, answer: Any) -> dict[str, Any]:
    """The structured content of a JSON-RPC answer. Raises Failure."""
    if not isinstance(answer, dict) or not isinstance(answer.get("result"), dict):
        error = answer.get("error") if isinstance(answer, dict) else None
        told = error.get("message") if isinstance(error, dict) else f"HTTP {status} without a result"
        raise _unavailable(f"{name}: {told}")
    result = answer["result"]
    if not result.get("isError"):
        content = result.get("structuredContent")
        return content if isinstance(content, dict) else {}
    text = "".join(part.get("text", "") for part in result.get("content", ()))
    error = (result.get("_meta") or {}).get(ERROR_META) or {}
    if not isinstance(error.get("code"), str):
        raise _unavailable(f"{name}: {text}")
    details = {name: error[name] for name in ("retryAfter", "scripted") if name in error}
    raise Failure(error["code"], text.removeprefix(f"{error['code']}: "), details or None)


def _unavailable(why: str) -> Failure:
    return Failure(failure.LLM_UNAVAILABLE, why)
