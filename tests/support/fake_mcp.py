"""An MCP server on a Unix socket that answers every `tools/call` as a test says, whole or as a stream."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Said:
    """What a tool says: its result, or its failure, after pieces of progress."""

    content: dict[str, Any] | None = None
    code: str = ""
    message: str = ""
    retry_after: float | None = None
    deltas: tuple[str, ...] = ()
    scripted: bool = False
    """Whether its progress and its failure say that no model wrote them."""

    def answer(self, ident: Any) -> dict[str, Any]:
        text = f"{self.code}: {self.message}" if self.code else json.dumps(self.content)
        result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": bool(self.code)}
        if self.code:
            scripted = True if self.scripted else None
            error = {"code": self.code, "retryAfter": self.retry_after, "scripted": scripted}
            result["_meta"] = {
                "uhlp/error": {name: value for name, value in error.items() if value is not None}
            }
        else:
            result["structuredContent"] = self.content
        return {"jsonrpc": "2.0", "id": ident, "result": result}


def completion(output: Any, *deltas: str, **more: Any) -> Said:
    """What `core.llm.generate` answers."""
    text = output if isinstance(output, str) else json.dumps(output)
    content = {
        "completion": text,
        "output": output,
        "model": "m",
        "provider": "scripted",
        "scripted": True,
        "finishReason": "stop",
        "usage": {"inputTokens": 3, "outputTokens": 2},
        "costUsd": None,
        "attempts": 1,
        "cached": False,
        **more,
    }
    return Said(content, deltas=deltas)


@dataclass
class FakeMcp:
    """The server. `script` decides; it may wait, and it is cancelled when the caller hangs up."""

    path: Path
    script: Callable[[dict[str, Any]], Said | Awaitable[Said]] = lambda arguments: completion("well")
    calls: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    gone: int = 0
    """Callers that hung up before they had their answer."""
    between: asyncio.Event | None = None
    """Waited for after each delta."""

    async def __aenter__(self) -> "FakeMcp":
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=1 << 24)
        self.path.chmod(0o666)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
        request = json.loads(await reader.readexactly(length))
        self.heads.append(head)
        assert request["params"]["name"] == "core.llm.generate"
        self.calls.append(request["params"]["arguments"])
        work = asyncio.create_task(self._answer(request, writer))
        hangs_up = asyncio.create_task(reader.read())
        await asyncio.wait([work, hangs_up], return_when=asyncio.FIRST_COMPLETED)
        hangs_up.cancel()
        if not work.done():
            work.cancel()
        try:
            await work
        except (asyncio.CancelledError, ConnectionError):
            self.gone += 1

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        said = self.script(request["params"]["arguments"])
        if not isinstance(said, Said):
            said = await said
        token = request["params"].get("_meta", {}).get("progressToken")
        body = json.dumps(said.answer(request["id"])).encode()
        if token is None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number, delta in enumerate(said.deltas, 1):
            params = {"progressToken": token, "progress": number, "message": delta}
            if said.scripted:
                params["_meta"] = {"uhlp/scripted": True}
            note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
            await self._event(writer, json.dumps(note).encode())
            if self.between is not None:
                await self.between.wait()
                self.between.clear()
        await self._event(writer, body)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _event(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """In two chunks, cut anywhere: events and chunks have nothing to do with each other."""
        event = b"event: message\r\ndata: " + data + b"\r\n\r\n"
        for part in (event[:30], event[30:]):
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
