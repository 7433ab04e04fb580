"""Puts a gateway on a stage: a real Redis, a data folder, routes that a test writes, and a raw client."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from support.private_redis import PrivateRedis
from support.waiting import eventually
from uhlp_core import keys, wake
from uhlp_core.settings import Settings
from uhlp_core.sockets import listen_tcp
from uhlp_gateway.server import serve
from uhlp_state.model import AppDefinition, SecurityConfig, ToolDefinition
from uhlp_state.snapshot import AppSnapshot, UiFile

DEADLINE = 10.0


@dataclass(frozen=True)
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        found = self.all(name)
        assert len(found) == 1, f"{name}: {found}"
        return found[0]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def json(self) -> Any:
        return orjson.loads(self.body)


class RawClient:
    """One connection; sends bytes as they are, reads framed responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self, method: str = "GET") -> Response:
        async with asyncio.timeout(DEADLINE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("utf-8")
            first, *lines = head.rstrip("\r\n").split("\r\n")
            headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
            status = int(first.split(" ")[1])
            length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
            empty = method == "HEAD" or status in (204, 304)
            body = b"" if empty else await self.reader.readexactly(length)
            return Response(status, headers, body)

    async def at_end(self) -> bool:
        """Whether the server closes the connection without another byte."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read(1) == b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@dataclass
class Stage:
    """One gateway and everything around it."""

    folder: Path
    redis_server: PrivateRedis
    settings: Settings
    redis: Any = None
    port: int = 0
    generation: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None

    async def start_gateway(self) -> None:
        listener = listen_tcp("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(serve(self.settings, self.stop, listener))

    async def stop_gateway(self) -> None:
        if self.task is not None:
            self.stop.set()
            task, self.task = self.task, None
            await task

    async def publish(
        self,
        components: Sequence[Mapping[str, Any]],
        lanes: Sequence[Mapping[str, Any]],
        *,
        deployment: str = "demo",
        commit: str = "c" * 40,
        tree: str = "d" * 40,
        pool: Mapping[str, Any] | None = None,
        schemas: Mapping[str, Any] | None = None,
        ui: Mapping[str, bytes] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        api_keys: Sequence[Mapping[str, Any]] = (),
        suspended: bool = False,
        on_demand: bool = False,
        acknowledged: bool = True,
        **definition: Any,
    ) -> int:
        """Write a RoutesDoc as the routes daemon does; by default wait until the gateway has it in force."""
        app = deployment.partition("@")[0]
        self.generation += 1
        files = {}
        for path, content in (ui or {}).items():
            target = self.settings.home.trees / app / tree / "state" / "ui" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            files[path] = UiFile(blob=f"{hash(content) & (2**160 - 1):040x}", size=len(content))
        snapshot = {
            **AppSnapshot(
                app,
                commit,
                tree,
                AppDefinition.model_validate(
                    {
                        "appId": app,
                        "sandboxPools": {"pools": [{"poolName": "python", **(pool or {})}]},
                        **definition,
                    }
                ),
                (),
                SecurityConfig.model_validate({"apiKeys": list(api_keys)}),
                schemas=schemas or {},
                ui=files,
                tools=tuple(ToolDefinition.model_validate(tool) for tool in tools),
            ).to_json(),
            "components": [
                {
                    "handlerType": "JIT",
                    "targetPoolName": "python",
                    "taskDetails": {"script": "handler.py", "function": "handle"},
                    **component,
                }
                for component in components
            ],
        }
        document = {
            "deployment": deployment,
            "app": app,
            "commit": commit,
            "tree": tree,
            "generation": self.generation,
            "suspended": suspended,
            "onDemand": on_demand,
            "snapshot": snapshot,
            "pools": {"python": list(lanes)},
        }
        async with self.redis.pipeline() as pipe:
            pipe.sadd(keys.DEPLOYMENTS, deployment)
            pipe.set(keys.routes(deployment), orjson.dumps(document))
            wake.nudge(pipe, "routes", deployment)
            await pipe.execute()
        generation = self.generation
        if acknowledged:
            await eventually(lambda: self.acknowledged(deployment, generation), "the gateway acknowledges")
        return generation

    async def acknowledged(self, deployment: str, generation: int) -> bool:
        return any(int(value) >= generation for value in await self.redis.hvals(keys.acks(deployment)))

    async def connect(self) -> RawClient:
        return RawClient(*await asyncio.open_connection("127.0.0.1", self.port))

    async def ask(
        self,
        method: str,
        path: str,
        *headers: tuple[str, str],
        body: bytes | None = None,
        host: str = "demo.localhost",
    ) -> Response:
        """One request on a connection of its own."""
        client = await self.connect()
        try:
            client.send(raw(method, path, *headers, body=body, host=host))
            return await client.read(method)
        finally:
            await client.close()


def raw(
    method: str,
    path: str,
    *headers: tuple[str, str],
    body: bytes | None = None,
    host: str = "demo.localhost",
) -> bytes:
    """A request in wire form; a body is JSON unless a header says something else."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
        if not any(name.lower() == "content-type" for name, _ in headers):
            lines.append("Content-Type: application/json")
    return "\r\n".join((*lines, "", "")).encode() + (body or b"")


def route(pattern: str, *methods: str, component: str = "hello", **more: Any) -> dict[str, Any]:
    """A routed component."""
    return {
        "componentId": component,
        "routeMatcher": {"pathPattern": pattern, "methods": list(methods)},
        **more,
    }
