"""Calls an app's components, through the internal door of a gateway (docs/architecture.md).

A call is never sent twice: what became of one whose answer got lost is unknown.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import orjson

from uhlp_core.errors import UhlpError, Unavailable
from uhlp_core.home import Home
from uhlp_core.unix_http import Connection, ConnectionLost, Reply, connect, message
from uhlp_mcp.tools import Caller, InvalidArguments

MAX_CALL_SECONDS = 1830.0
"""Longer than a component may wait for a lane (900 s), be woken, and run (900 s): a gateway answers first."""

IDLE_SECONDS = 30.0
"""A kept connection is not used after this long; the gateway closes it later than that."""

MAX_IDLE = 64
"""Connections kept; more calls than this at the same time are rare."""

MAX_DETAILS = 2000
"""Characters of an error's details that are told."""


class CallFailed(UhlpError):
    """The component, or the way to it, failed; `code` says which way."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a component returned (specification 2.4)."""

    type: str
    """`generic`, `httpResponse` or `workflowStep`."""
    data: Any
    scripted: bool
    """Whether it is the answer of an LLM component, and a script of the app's wrote it."""


class Invoker:
    """Keeps connections to the gateways of this machine."""

    def __init__(self, home: Home) -> None:
        self._folder = home.gateways
        self._idle: list[tuple[float, Connection]] = []

    async def invoke(
        self, caller: Caller, component: str, given: Any, *, timeout_ms: int | None = None
    ) -> Result:
        """Run a component of the caller's deployment; its handler gets `given` as `input`.

        `timeout_ms` shortens the pool's timeout. Raises CallFailed with the component's code or the
        gateway's, InvalidArguments, and Unavailable if no gateway runs.
        """
        call = {
            "deployment": caller.deployment,
            "componentId": component,
            "input": given,
            "user": caller.user,
            "depth": caller.depth + 1,
            "requestId": caller.request_id,
            "timeoutMs": timeout_ms,
        }
        try:
            body = orjson.dumps(call)
        except TypeError:
            raise InvalidArguments("the input is nested deeper than JSON can be written here") from None
        connection = await self._open()
        try:
            async with asyncio.timeout(MAX_CALL_SECONDS):
                reply = await connection.request(message("POST", "/invoke", body))
        except (ConnectionLost, TimeoutError):
            raise CallFailed(
                f"the gateway ended before {component} had answered; whether it acted is unknown",
                code="GATEWAY_LOST",
            ) from None
        finally:
            self._keep(connection)
        return _result(reply)

    def close(self) -> None:
        """Drop the kept connections."""
        for _, connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _open(self) -> Connection:
        now = asyncio.get_running_loop().time()
        while self._idle:
            since, connection = self._idle.pop()
            if connection.usable and now - since < IDLE_SECONDS:
                return connection
            connection.close()
        doors = await asyncio.to_thread(lambda: list(self._folder.glob("*.sock")))
        for door in random.sample(doors, len(doors)):
            try:
                return await connect(str(door))
            except OSError:
                continue  # Left by a gateway that was killed; the next one to start removes it.
        raise Unavailable("no gateway runs at the moment; try again")

    def _keep(self, connection: Connection) -> None:
        if connection.usable and len(self._idle) < MAX_IDLE:
            self._idle.append((asyncio.get_running_loop().time(), connection))
        else:
            connection.close()


def _result(reply: Reply) -> Result:
    found = orjson.loads(reply.body)
    if reply.status == 200:
        return Result(found["resultType"], found["data"], found.get("scripted", False))
    text = str(found["detail"])
    if details := found.get("errors") or found.get("details"):
        text += f" (details: {orjson.dumps(details).decode()[:MAX_DETAILS]})"
    failed = CallFailed(text, code=found["code"])
    failed.retry_after, failed.scripted = found.get("retryAfter"), found.get("scripted", False)
    raise failed
