"""An MCP daemon's surroundings: instances and served revisions in Redis, and messages to its doors."""

import asyncio
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from support import leaks
from support.private_redis import PrivateRedis
from support.waiting import eventually
from uhlp_core import keys, wake
from uhlp_core.settings import Settings
from uhlp_state.model import (
    AllowedMcpServer,
    AppDefinition,
    ComponentDefinition,
    PinnedTool,
    Policy,
    SecurityConfig,
    ToolDefinition,
)
from uhlp_state.snapshot import AppSnapshot

OPERATOR = "operator-of-the-tests"
"""The operator token."""

API_KEY = "key-of-a-client-of-the-tests"
"""For tests that let a client in with an API key."""

_IN_ENVIRONMENT = ("UHLP_SECRET_", "UHLP_SHARED_SECRET_")


@dataclass
class Office:
    """The daemon and what a test needs around it."""

    settings: Settings
    redis: Any
    redis_server: PrivateRedis
    url: str
    """Of the door for people's clients, with /mcp."""
    shown: set[str] = field(default_factory=set)
    """Credentials that were shown at an instance's door."""

    def secrets(self) -> list[bytes]:
        """What may stand nowhere: the apps' secrets in the environment, credentials, and the platform's own.

        The last word of a secret counts by itself: of `Bearer …`, that is the token.
        """
        given = [value for name, value in os.environ.items() if name.startswith(_IN_ENVIRONMENT)]
        words = [word for value in given for word in value.split()[-1:]]
        known = [text.encode() for text in {OPERATOR, API_KEY, *self.shown, *given, *words}]
        own = leaks.own_secrets(self.settings.home.root)
        return [secret for secret in known + own if len(secret) >= leaks.SHORTEST]

    def door(self, instance: str) -> Path:
        return self.settings.home.sandboxes / instance / "mcp.sock"

    async def add(self, deployment: str, instance: str) -> Path:
        """Tell that an instance runs, and wait until its door is open."""
        folder = self.settings.home.sandboxes / instance
        folder.mkdir(mode=0o700, exist_ok=True)
        async with self.redis.pipeline() as pipe:
            pipe.sadd(keys.DEPLOYMENTS, deployment)
            pipe.hset(keys.instances(deployment), instance, orjson.dumps({"dir": str(folder)}))
            wake.nudge(pipe, "instances", deployment)
            await pipe.execute()
        await eventually(lambda: listens(self.door(instance)), f"{instance}'s door is open")
        return folder

    async def remove(self, deployment: str, instance: str) -> None:
        async with self.redis.pipeline() as pipe:
            pipe.hdel(keys.instances(deployment), instance)
            wake.nudge(pipe, "instances", deployment)
            await pipe.execute()

    async def publish(
        self,
        deployment: str,
        commit: str = "c" * 40,
        keys_of_api: Sequence[Mapping[str, Any]] = (),
        policies: Mapping[str, Any] | None = None,
        mcp_programs: Mapping[str, AllowedMcpServer] | None = None,
        mcp_pins: Mapping[str, tuple[PinnedTool, ...]] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        **definition: Any,
    ) -> None:
        """Write the RoutesDoc that says what is served."""
        app = deployment.partition("@")[0]
        component = ComponentDefinition.model_validate(
            {
                "componentId": "hello",
                "handlerType": "JIT",
                "targetPoolName": "python",
                "configurationOverrides": {"greeting": "hello from hello"},
            }
        )
        snapshot = AppSnapshot(
            app,
            commit,
            "d" * 40,
            AppDefinition.model_validate({"appId": app, **definition}),
            (component,),
            SecurityConfig.model_validate({"apiKeys": list(keys_of_api)}),
            policies={name: Policy.model_validate(policy) for name, policy in (policies or {}).items()},
            mcp_programs=mcp_programs or {},
            mcp_pins=mcp_pins or {},
            tools=tuple(ToolDefinition.model_validate(tool) for tool in tools),
        )
        async with self.redis.pipeline() as pipe:
            pipe.set(keys.routes(deployment), orjson.dumps({"snapshot": snapshot.to_json()}))
            wake.nudge(pipe, "routes", deployment)
            await pipe.execute()

    async def post(self, instance: str, body: Any, **more: Any) -> tuple[int, Any]:
        """Send a message (or bytes) through an instance's door: HTTP status, and JSON or None."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        given = more.pop("headers", {})
        headers = [
            ("Content-Type", "application/json"),
            *(given.items() if isinstance(given, dict) else given),
        ]
        for name, value in headers:
            if name in ("Authorization", "X-API-Key"):
                self.shown.add(value.removeprefix("Bearer "))
        connector = aiohttp.UnixConnector(str(self.door(instance)))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(
                more.get("method", "POST"),
                f"http://uhlp{more.get('path', '/mcp')}",
                data=io.BytesIO(data),
                headers=headers,
            ) as response,
        ):
            content = await response.read()
            assert not any(secret in content for secret in self.secrets()), "an answer tells a secret"
            return response.status, orjson.loads(content) if content else None

    async def rpc(self, instance: str, method: str, params: Any = None) -> dict[str, Any]:
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": 7, "method": method}
        if params is not None:
            message["params"] = params
        status, document = await self.post(instance, message)
        assert (status, document["id"], document["jsonrpc"]) == (200, 7, "2.0")
        assert isinstance(document, dict)
        return document

    async def call(self, instance: str, tool: str, /, **arguments: Any) -> Any:
        """The structured content of a call that must succeed."""
        answer = await self.rpc(instance, "tools/call", {"name": tool, "arguments": arguments})
        result = answer["result"]
        assert result["isError"] is False, result
        assert orjson.loads(result["content"][0]["text"]) == result["structuredContent"]
        return result["structuredContent"]

    async def refused(self, instance: str, tool: str, /, **arguments: Any) -> str:
        """The text of a call that must fail inside the tool."""
        answer = await self.rpc(instance, "tools/call", {"name": tool, "arguments": arguments})
        assert answer["result"]["isError"] is True
        text = answer["result"]["content"][0]["text"]
        assert isinstance(text, str)
        return text


def stateless(method: str, name: str = "", **params: Any) -> dict[str, Any]:
    """Body and headers of a request of revision 2026-07-28."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    if name:
        params["name"] = name
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
    if name:
        headers["Mcp-Name"] = name
    params["_meta"] = meta | params.get("_meta", {})
    return {"body": {"jsonrpc": "2.0", "id": "x", "method": method, "params": params}, "headers": headers}


async def listens(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
