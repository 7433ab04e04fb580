"""What a handler may use of the platform: its errors, its tools, its state and its log.

    from uhlp_sdk import AppError, call_tool, invoke, log, state

Importable in every sandbox, standard library only. A sandbox has no network: `call_tool` speaks with the
platform's MCP server over the Unix socket that the request's context names, and with nobody else.
"""

import sys
from time import perf_counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from socket import socket
    from typing import Any

MCP_TIMEOUT_SECONDS = 600
"""Longer than any request may take: the request's own timeout is what ends a call."""

MCP_START_SECONDS = 3.0
"""For the server's door, which opens a moment after the instance, and again when the server was restarted."""

RECEIVE_BYTES = 65536
RESPONSE_LIMIT = 64 << 20
"""Bytes of a tool's result."""


class AppError(Exception):
    """The application's own "no": the caller gets `code`, `message` and `details`, with HTTP `status`."""

    def __init__(self, code: str, message: str, details: object = None, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.status = status


class ToolError(Exception):
    """A tool call that failed. `code` is the platform's, e.g. `NOT_FOUND`, or `MCP_UNREACHABLE`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def call_tool(name: str, arguments: "Mapping[str, Any] | None" = None) -> "Any":
    """Call an MCP tool: its structured content, or its text where it has none. Raises ToolError."""
    began = perf_counter()
    try:
        return _mcp.call(name, dict(arguments or {}))
    finally:
        call = _counts.setdefault(name, [0, 0.0])
        call[0] += 1
        call[1] += (perf_counter() - began) * 1000


def invoke(component: str, input: "Any" = None, timeout_ms: "int | None" = None) -> "Any":
    """Run another component of this app with `input`, and return its result.

    A result that is an HTTP response is a dict with `statusCode`, `headers` and `body`. Raises ToolError with
    the code of what failed: the component's own, or the platform's, e.g. `COMPONENT_NOT_FOUND`.
    """
    arguments: dict[str, Any] = {"componentId": component, "input": input}
    if timeout_ms is not None:
        arguments["timeoutMs"] = timeout_ms
    return call_tool("core.component.invoke", arguments)["data"]


class _State:
    """The app's runtime state, by key; every value is JSON. All methods raise ToolError."""

    def get(self, key: str, default: "Any" = None) -> "Any":
        """The value of `key`, or `default` where there is none."""
        answer = call_tool("core.state.getRuntimeValue", {"key": key})
        return answer["value"] if answer["found"] else default

    def set(self, key: str, value: "Any", ttl_seconds: "float | None" = None) -> None:
        """Store a value, for `ttl_seconds` where given."""
        arguments = {"key": key, "value": value}
        if ttl_seconds is not None:
            arguments["ttlSeconds"] = ttl_seconds
        call_tool("core.state.setRuntimeValue", arguments)

    def delete(self, key: str) -> bool:
        """Remove a key; False where there was none."""
        return bool(call_tool("core.state.deleteRuntimeValue", {"key": key})["success"])

    def increment(self, key: str, amount: int = 1, ttl_seconds: "float | None" = None) -> "Any":
        """Add to a number, atomically, and return the sum. A key that is not there counts as 0."""
        arguments: dict[str, Any] = {"key": key, "amount": amount}
        if ttl_seconds is not None:
            arguments["ttlSeconds"] = ttl_seconds
        return call_tool("core.state.incrementRuntimeValue", arguments)["value"]


class _Log:
    """Writes lines into the app's log, with their level and the request's id."""

    def debug(self, message: object) -> None:
        """For whoever looks for a bug."""
        _write("debug", message)

    def info(self, message: object) -> None:
        """What happened."""
        _write("info", message)

    def warning(self, message: object) -> None:
        """What should be looked at."""
        _write("warning", message)

    def error(self, message: object) -> None:
        """What failed."""
        _write("error", message)


def _write(level: str, message: object) -> None:
    from _json import encode_basestring_ascii

    # The mark tells the runner that a level and one JSON string follow: a message may have many lines.
    sys.stdout.write(f"\x1e{level} {encode_basestring_ascii(str(message))}\n")
    sys.stdout.flush()


class _Client:
    """JSON-RPC `tools/call` over kept HTTP/1.1 connections: one, or as many as the handler's threads use."""

    def __init__(self) -> None:
        self._idle: list[socket] = []
        self._endpoint = ""
        self._token = ""
        self._request_id = ""
        self._number = 0

    def use(self, endpoint: str, token: str, request_id: str) -> None:
        """Where calls go from now on, what shows who makes them, and for which request."""
        self._token = token
        self._request_id = request_id
        if endpoint != self._endpoint:
            self._close()
            self._endpoint = endpoint

    def call(self, name: str, arguments: "dict[str, Any]") -> "Any":
        import json

        self._number += 1
        call = {"name": name, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": self._number, "method": "tools/call", "params": call}
        status, body = self._post(json.dumps(message).encode())
        try:
            answer = json.loads(body)
        except ValueError:
            raise ToolError("MCP_BAD_ANSWER", f"{name}: HTTP {status} without JSON") from None
        if "error" in answer:
            error = answer["error"] if isinstance(answer["error"], dict) else {}
            data = error.get("data")
            code = data.get("code") if isinstance(data, dict) else None
            text = error.get("message", answer["error"])
            raise ToolError(str(code or error.get("code", f"HTTP_{status}")), f"{name}: {text}")
        result = answer["result"]
        content = result.get("structuredContent")
        text = "".join(part.get("text", "") for part in result.get("content", ()))
        if result.get("isError"):
            error = (result.get("_meta") or {}).get("uhlp/error") or {}
            code = str(error.get("code") or "TOOL_FAILED")
            raise ToolError(code, f"{name}: {text.removeprefix(code + ': ')}")
        return text if content is None else content

    def _post(self, body: bytes) -> "tuple[int, bytes]":
        """Send a request, once: what is lost on the way may have been done."""
        head = (
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nContent-Length: {len(body)}\r\n"
        )
        if self._request_id:
            head += f"X-Request-ID: {self._request_id}\r\n"
        if self._token:
            head += f"Authorization: Bearer {self._token}\r\n"
        head += "\r\n"
        try:
            return self._exchange(head.encode() + body)
        except OSError as error:
            raise ToolError("MCP_UNREACHABLE", f"{self._endpoint or 'no mcp_endpoint'}: {error}") from None

    def _exchange(self, message: bytes) -> "tuple[int, bytes]":
        # Kept again only after a whole answer: an interrupted call leaves no half one.
        connection = self._kept() or self._connect()
        try:
            connection.sendall(message)
            data = b""
            while (end := data.find(b"\r\n\r\n")) < 0:
                part = connection.recv(RECEIVE_BYTES)
                if not part:
                    raise ConnectionResetError("closed before it answered")
                data += part
            head, body = data[:end].lower(), data[end + 4 :]
            status = int(head.split(None, 2)[1])
            length = 0
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name == b"content-length":
                    length = int(value)
            if length > RESPONSE_LIMIT:
                raise ToolError("MCP_BAD_ANSWER", f"{length} bytes are more than {RESPONSE_LIMIT}")
            parts = [body]
            missing = length - len(body)
            while missing > 0:
                part = connection.recv(RECEIVE_BYTES)
                if not part:
                    raise ToolError("MCP_UNREACHABLE", "the connection closed within an answer")
                parts.append(part)
                missing -= len(part)
        except BaseException:
            connection.close()
            raise
        if b"connection: close" in head:
            connection.close()
        else:
            self._idle.append(connection)
        return status, b"".join(parts)

    def _kept(self) -> "socket | None":
        """The connection of a call before, if it was not closed meanwhile."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break  # Another thread was faster.
            connection.settimeout(0)
            try:
                connection.recv(1)  # Nobody has asked anything yet: there is only the end to be received.
            except BlockingIOError:
                connection.settimeout(MCP_TIMEOUT_SECONDS)
                return connection
            except OSError:
                pass
            connection.close()
        return None

    def _connect(self) -> "socket":
        import socket
        from time import monotonic, sleep

        path = self._endpoint.removeprefix("unix:")
        if path.startswith("//"):
            path = path[2:]
        until = monotonic() + (MCP_START_SECONDS if path else 0)
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(MCP_TIMEOUT_SECONDS)
                connection.connect(path)
                return connection
            except (FileNotFoundError, ConnectionRefusedError, PermissionError, BlockingIOError):
                connection.close()
                if monotonic() >= until:
                    raise
            sleep(0.02)

    def _close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _begin(context: "dict[str, Any]") -> None:
    """The runner's: a request begins."""
    _counts.clear()
    token, request_id = context.get("mcp_token"), context.get("requestId")
    _mcp.use(context.get("mcp_endpoint") or "", token or "", request_id or "")


def _calls() -> "list[dict[str, object]]":
    """The runner's: the calls of this request, for its metrics (specification 2.4)."""
    return [
        {"tool": tool, "count": count, "total_duration_ms": round(duration, 3)}
        for tool, (count, duration) in _counts.items()
    ]


state = _State()
log = _Log()
_mcp = _Client()
_counts: "dict[str, list[Any]]" = {}

# Imported while a request runs already (a fresh interpreter, an import inside a function): join it.
_runner = sys.modules.get("uhlp_runner.invoking")
if _runner is not None:
    _begin(_runner.current_context)
