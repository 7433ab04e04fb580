"""A scripted sandbox on Unix sockets: the gateway's far end, as docs/architecture.md describes a runner."""

import asyncio
import contextlib
import inspect
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Answer = tuple[int, Any]
"""HTTP status and JSON body; a body of bytes is sent as it is, framing and all."""
Script = Callable[[dict[str, Any]], Answer | Awaitable[Answer | None] | None]
"""Takes the `/execute` document; None hangs up."""


def http_result(status: int = 200, body: str = "", **headers: Any) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = {"statusCode": status, "headers": named, "body": body}
    return 200, {"resultType": "httpResponse", "data": data}


def generic(data: Any) -> Answer:
    return 200, {"resultType": "generic", "data": data}


class Sandbox:
    """One instance: `execute.sock` and lanes of its own."""

    def __init__(self, folder: Path, name: str = "i0", lanes: int = 1, capacity: int = 1) -> None:
        self.name = name
        self.folder = folder / name
        self.sockets = [self.folder / f"w{number}.sock" for number in range(lanes)]
        self.capacity = capacity
        self.serves = "JIT"
        self.script: Script = lambda request: generic({"ok": True})
        self.requests: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.cancelled: list[str] = []
        self.outcomes: dict[str, dict[str, str]] = {}
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def lanes(self) -> list[dict[str, Any]]:
        return [
            {"instance": self.name, "socket": str(path), "capacity": self.capacity, "serves": self.serves}
            for path in self.sockets
        ]

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (*self.sockets, self.folder / "execute.sock"):
            path.unlink(missing_ok=True)
            self._servers.append(await asyncio.start_unix_server(self._serve, path))

    async def stop(self) -> None:
        """The instance dies: nobody listens any more, every connection is cut."""
        for server in self._servers:
            server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        self._servers.clear()
        for path in (*self.sockets, self.folder / "execute.sock"):
            path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        length = next(
            int(line.split(":")[1])
            for line in head.split("\r\n")
            if line.lower().startswith("content-length")
        )
        body = await reader.readexactly(length)
        answer = await self._decide(method, target, head, body)
        if answer is None:
            return False
        status, document = answer
        if not isinstance(document, bytes):
            encoded = json.dumps(document).encode()
            document = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(encoded), encoded)
        writer.write(document)
        await writer.drain()
        return True

    async def _decide(self, method: str, target: str, head: str, body: bytes) -> Answer | None:
        path, _, query = target.partition("?")
        if (method, path) == ("GET", "/outcome"):
            found = self.outcomes.get(query.removeprefix("requestId="))
            return (200, found) if found else (404, {})
        document = json.loads(body)
        if path == "/cancel":
            self.cancelled.append(document["requestId"])
            return 200, {}
        assert (method, path) == ("POST", "/execute")
        self.requests.append(document)
        self.heads.append(head)
        answer = self.script(document)
        return await answer if inspect.isawaitable(answer) else answer
