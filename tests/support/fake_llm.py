"""A provider of language models on loopback: OpenAI's chat completions and Anthropic's messages, with faults.

It answers what it is told to, in the order told, and remembers what it was sent. The real SDKs call it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web


@dataclass(frozen=True)
class Say:
    """One answer."""

    text: str = "hello"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    """Sent as it is, instead of a well-formed answer."""
    cut: bool = False
    """Break the connection off before the answer is whole."""
    hang: bool = False
    """Do not answer before `FakeLlm.release`."""
    finish: str = "stop"
    refusal: str | None = None
    usage: tuple[int, int] | None = (10, 5)
    error: dict[str, Any] | None = None
    """What the error says, with a status of 400 and more; with 200, as an event in the midst of a stream."""


@dataclass(frozen=True)
class Seen:
    """One request."""

    path: str
    headers: dict[str, str]
    """By lower-case name."""
    body: dict[str, Any]


class FakeLlm:
    """The server; `url` is its root."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.next: deque[Say] = deque()
        self.otherwise = Say()
        self.under_way = 0
        self.most_under_way = 0
        self._over = asyncio.Event()

    @property
    def openai(self) -> str:
        return f"{self.url}/v1"

    def release(self) -> None:
        """Let what hangs be answered."""
        self._over.set()

    def say(self, *answers: Say) -> None:
        """Answer so, one request after the other."""
        self.next.extend(answers)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeLlm"]:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._openai)
        app.router.add_post("/v1/messages", self._anthropic)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            self.release()
            await runner.cleanup()

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        answer = await self._take(request)
        if answer.status != 200 or answer.raw is not None:
            return _plain(answer, {"error": answer.error or {"message": "no"}})
        usage = answer.usage and {
            "prompt_tokens": answer.usage[0],
            "completion_tokens": answer.usage[1],
            "total_tokens": sum(answer.usage),
        }
        if not self.seen[-1].body.get("stream"):
            message = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
            choice = {"index": 0, "message": message, "finish_reason": answer.finish}
            return await self._whole(request, answer, {"choices": [choice], "usage": usage, "model": "m"})
        pieces = [
            {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
            for piece in _pieces(answer.text)
        ]
        end = {
            "choices": [{"index": 0, "delta": {"refusal": answer.refusal}, "finish_reason": answer.finish}]
        }
        events = [_event(piece) for piece in (*pieces, end, {"choices": [], "usage": usage})]
        return await self._stream(request, answer, [*events, b"data: [DONE]\n\n"])

    async def _anthropic(self, request: web.Request) -> web.StreamResponse:
        answer = await self._take(request)
        if answer.status != 200 or answer.raw is not None:
            return _plain(answer, {"type": "error", "error": answer.error or {"message": "no"}})
        finish = {"stop": "end_turn", "length": "max_tokens"}.get(answer.finish, answer.finish)
        usage = answer.usage or (0, 0)
        message = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [{"type": "text", "text": answer.text}],
            "stop_reason": finish,
            "usage": {"input_tokens": usage[0], "output_tokens": usage[1]},
        }
        if not self.seen[-1].body.get("stream"):
            return await self._whole(request, answer, message)
        start = {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
        block = {"type": "text", "text": ""}
        events = [
            start,
            {"type": "content_block_start", "index": 0, "content_block": block},
            *(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": piece},
                }
                for piece in _pieces(answer.text)
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": finish},
                "usage": {"output_tokens": usage[1]},
            },
            {"type": "message_stop"},
        ]
        if answer.error is not None:
            events[3:] = [{"type": "error", "error": answer.error}]
        named = [f"event: {event['type']}\n".encode() + _event(event) for event in events]
        return await self._stream(request, answer, named)

    async def _take(self, request: web.Request) -> Say:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.path, headers, orjson.loads(await request.read())))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            answer = self.next.popleft() if self.next else self.otherwise
            if answer.hang:
                await self._over.wait()
            return answer
        finally:
            self.under_way -= 1

    async def _whole(self, request: web.Request, answer: Say, body: dict[str, Any]) -> web.StreamResponse:
        content = orjson.dumps(body)
        if not answer.cut:
            return web.Response(body=content, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(content)
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
        return _broken_off(request, response)

    async def _stream(self, request: web.Request, answer: Say, events: list[bytes]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events[: len(events) // 2 if answer.cut else None]:
            await response.write(event)
        if answer.cut:
            return _broken_off(request, response)
        await response.write_eof()
        return response


def _broken_off(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return response


def _plain(answer: Say, body: dict[str, Any]) -> web.Response:
    content = orjson.dumps(body) if answer.raw is None else answer.raw
    return web.Response(
        body=content, status=answer.status, headers={"Content-Type": "application/json", **answer.headers}
    )


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


def _pieces(text: str) -> list[str]:
    return [text[place : place + 4] for place in range(0, len(text), 4)]
