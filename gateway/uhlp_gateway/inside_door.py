"""The internal door: `POST /invoke` on a Unix socket of this user's, for calls of components from inside.

The MCP daemon is its client. What it says of a caller (deployment, user, depth) is taken as true: it has
checked who calls, and nobody but this user's processes can connect. A call is executed, checked, counted and
logged like a request from outside.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from uhlp_core import sockets
from uhlp_core.ids import child_request_id, is_request_id, new_request_id
from uhlp_gateway.access_log import CLIENT_GONE, AccessLine, AccessLog
from uhlp_gateway.body import read_body
from uhlp_gateway.execute import POOL_BUSY, Job
from uhlp_gateway.http_server import HttpServer, Request
from uhlp_gateway.http_wire import Response
from uhlp_gateway.performer import Performer, check_admission, check_request
from uhlp_gateway.problems import Problem, problem_response
from uhlp_gateway.respond import BadResult, respond_inside
from uhlp_gateway.table import Component, Table
from uhlp_gateway.tables import Tables

PATH = "/invoke"
METHOD = "INVOKE"
"""In place of an HTTP method: in the access log, and no idempotent one, so a call is never sent twice."""

MAX_BYTES = 8 * 1024 * 1024
"""Largest call: a message to the MCP daemon fits, with room."""

MAX_DEPTH = 8
"""Components that call components: deeper is a loop, and each level holds a lane while it waits."""

DRAIN_SECONDS = 10.0
"""For calls under way when the gateway is told to stop."""

DEAD_AFTER_SECONDS = 10.0
"""A socket this old that nobody listens on belongs to a gateway that was killed, not to one that starts."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """What the client asks for."""

    deployment: str
    component: str
    input: Any
    user: str
    depth: int
    """Calls of components by components that led here, this one counted."""
    request_id: str
    timeout: float | None
    """Seconds; None is the pool's."""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Raises Problem."""
        try:
            found = orjson.loads(body)
            parent = found.get("requestId") or ""
            milliseconds = found.get("timeoutMs")
            return cls(
                deployment=found["deployment"],
                component=found["componentId"],
                input=found["input"],
                user=found.get("user", ""),
                depth=found["depth"],
                request_id=child_request_id(parent) if is_request_id(parent) else new_request_id(),
                timeout=None if milliseconds is None else milliseconds / 1000,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Problem(400, "BAD_REQUEST", f"this is no call of a component: {error!r}") from None


class InsideDoor:
    """Answers calls of components."""

    def __init__(self, tables: Tables, performer: Performer, access_log: AccessLog) -> None:
        self._tables = tables
        self._performer = performer
        self._access_log = access_log

    @contextlib.asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Keep the door open at `path`; at the end, let calls under way finish."""
        await asyncio.to_thread(_remove_dead, path.parent)
        server = HttpServer(self.handle, _refuse)
        accepting = await asyncio.get_running_loop().create_unix_server(
            server, sock=sockets.listen_unix(path), backlog=sockets.BACKLOG
        )
        sweep = asyncio.create_task(server.sweep())
        try:
            yield
        finally:
            accepting.close()
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # noqa: ASYNC240 - as quick as closing the socket
            await server.shutdown(DRAIN_SECONDS)
            sweep.cancel()

    async def handle(self, request: Request) -> Response:
        """Answer one call; raises nothing but CancelledError, when the client has gone."""
        try:
            if request.target != PATH or request.method != "POST":
                raise Problem(404, "NOT_FOUND", f"only POST {PATH} is served here")
            call = Call.parse(await read_body(request, MAX_BYTES))
        except Problem as problem:
            return problem.response(new_request_id(), PATH, close=True)
        try:
            return await self._answer(call)
        except Problem as problem:
            return _refusal(problem, call.request_id)
        except Exception:
            _log.exception("a call failed", extra={"requestId": call.request_id})
            return _refusal(
                Problem(500, "INTERNAL_ERROR", "the gateway failed; its log says more"), call.request_id
            )

    async def _answer(self, call: Call) -> Response:
        if call.depth > MAX_DEPTH:
            raise Problem(
                508,
                "INVOKE_TOO_DEEP",
                f"more than {MAX_DEPTH} components have called each other: look for a loop that ends with "
                f"{call.component}",
            )
        table = self._tables.by_deployment.get(call.deployment)
        if table is None:
            raise Problem(503, "NOT_SERVED", "the app is not served at the moment; try again")
        check_admission(table)
        component = table.components.get(call.component)
        if component is None:
            raise Problem(404, "COMPONENT_NOT_FOUND", f"{table.app} has no component {call.component[:80]!r}")
        return await self._counted(call, table, component)

    async def _counted(self, call: Call, table: Table, component: Component) -> Response:
        """Run the component, and tell metrics and log how that ended."""
        started = time.perf_counter()
        status, size, detail = CLIENT_GONE, 0, ""
        try:
            response = await self._run(call, table, component)
            status, size = response.status, len(response.body)
            return response
        except BadResult as error:
            problem, detail = error.problem(), str(error)
            status = problem.status
            raise problem from None
        except Problem as problem:
            status = problem.status
            raise
        except Exception:
            status = 500
            raise
        finally:
            seconds = time.perf_counter() - started
            component.metrics.count(status, seconds)
            self._access_log.add(
                AccessLine(
                    time.time(),
                    table.app,
                    table.deployment,
                    table.commit,
                    component.id,
                    call.request_id,
                    METHOD,
                    component.id,
                    status,
                    seconds,
                    size,
                    detail,
                )
            )

    async def _run(self, call: Call, table: Table, component: Component) -> Response:
        if component.request_schema is not None:
            await check_request(component.request_schema, call.input)
        if call.timeout is not None and call.timeout < component.timeout:
            component = component.limited_to(call.timeout)
        data = b'{"source":"internal","internalDetails":{"input":' + orjson.dumps(call.input) + b"}}"
        try:
            job = Job(call.request_id, None, data, METHOD, call.user, call.depth)
            reply = await self._performer.perform(table, component, job)
        except Problem as problem:
            if problem.code != POOL_BUSY:
                raise
            raise Problem(
                problem.status,
                POOL_BUSY,
                f"{problem}. A component that calls another one of its own pool needs a second lane: raise "
                f"concurrency or maxInstances of {component.pool}, or give them pools of their own",
                headers=problem.headers,
            ) from None
        return await respond_inside(reply, component.response_schema, call.request_id)


def _refusal(problem: Problem, request_id: str) -> Response:
    """The problem, with what a header says in its body: the client reads no headers."""
    extra = dict(problem.extra)
    if "Retry-After" in problem.headers:
        extra["retryAfter"] = int(problem.headers["Retry-After"])
    return problem_response(problem.status, problem.code, str(problem), request_id, PATH, extra=extra)


def _refuse(status: int, detail: str) -> Response:
    return problem_response(status, "BAD_REQUEST", detail, new_request_id(), "", close=True)


def _remove_dead(folder: Path) -> None:
    """Remove the sockets of gateways that were killed."""
    for path in folder.glob("*.sock"):
        with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
            if time.time() - path.stat().st_mtime < DEAD_AFTER_SECONDS:
                continue
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
