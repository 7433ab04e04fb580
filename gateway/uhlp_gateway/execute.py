"""Run one request in a sandbox: take a lane, send `/execute`, and decide what a failure on the way means.

Nothing is lost when an instance is replaced: a request that could not be sent goes to another lane. One that
was sent is never sent again, unless its method is idempotent and its instance is gone.
"""

import asyncio
import contextlib
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from uhlp_core.tokens import TokenCache
from uhlp_core.unix_http import Connection, ConnectionLost, DeadlinePassed, Reply, connect, message
from uhlp_gateway.lanes import Lane, Pool, PoolBusy
from uhlp_gateway.problems import Problem
from uhlp_gateway.table import Component, pool_of

TIMEOUT_GRACE_SECONDS = 1.0
"""The runner ends a handler at its timeout and says so; this is how much longer we wait for that."""

CONTROL_SECONDS = 1.0
"""For a question to an instance's `execute.sock` beside the requests: it answers at once or is gone."""

RETRY_AFTER_SECONDS = 1
"""What a refused client is told to wait; queues drain in seconds or not at all."""

POOL_BUSY = "POOL_BUSY"
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})

BUSY = frozenset({429, 503})
"""Statuses of an instance that takes nothing more at the moment."""

_background: set["asyncio.Task[None]"] = set()


def pool_busy() -> Problem:
    return Problem(
        503,
        POOL_BUSY,
        "every instance that could answer is busy; try again in a moment",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def sandboxes_lost() -> Problem:
    return Problem(
        503,
        "SANDBOX_LOST",
        "two sandboxes ended before they had answered; try again in a moment",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


class Job(NamedTuple):
    """What to execute, whoever asks for it."""

    request_id: str
    trace_id: str | None
    data: bytes
    """The JSON of specification 2.4's `requestData`."""
    method: str
    """An HTTP method tells whether the job may be sent twice."""
    user: str = ""
    """Whose credential came with it; empty where none was asked for. Nothing else in a request names one."""
    depth: int = 0
    """Calls of components by components that led here."""


async def execute(pool: Pool, component: Component, tokens: TokenCache, job: Job) -> Reply:
    """Send a job to the component's sandbox and return the runner's answer.

    `tokens` make what the handler shows the MCP server. Raises Problem.
    """
    loop = pool.loop
    give_up = loop.time() + pool.limits.queue_timeout
    retried = False
    while True:
        lane = pool.take()
        if lane is None:
            try:
                lane = await pool.wait()
            except PoolBusy:
                raise pool_busy() from None
        connection: Connection | None = None
        try:
            try:
                connection = await lane.open()
            except OSError:
                pool.set_aside(lane)
                if loop.time() >= give_up:
                    raise pool_busy() from None
                continue
            connection.deadline = loop.time() + component.timeout + TIMEOUT_GRACE_SECONDS
            pool.watch()
            reply = await connection.request(execute_message(pool, component, tokens, lane, job))
            if reply.status not in BUSY:
                return reply
            pool.set_aside(lane)
            if loop.time() >= give_up:
                raise pool_busy()
        except asyncio.CancelledError:
            if connection is not None:
                cancel_in_background(lane, job.request_id)
            raise
        except DeadlinePassed:
            cancel_in_background(lane, job.request_id)
            raise Problem(504, "HANDLER_TIMEOUT", "the handler did not answer in time") from None
        except ConnectionLost:
            outcome, reachable = await _outcome(lane, job.request_id)
            if outcome is not None:
                return outcome
            if not reachable:
                pool.set_aside(lane)
                if job.method in IDEMPOTENT:
                    if retried:  # Perhaps it is what ended them: it may not have all.
                        raise sandboxes_lost() from None
                    retried = True
                    continue
            raise Problem(
                502, "SANDBOX_LOST", "the sandbox ended before it had answered; whether it acted is unknown"
            ) from None
        finally:
            if connection is not None:
                lane.give_back(connection)
            pool.release(lane)


def execute_message(pool: Pool, component: Component, tokens: TokenCache, lane: Lane, job: Job) -> bytes:
    """The `/execute` request in wire form."""
    token = tokens.token(
        component.deployment, pool_of(pool.name), lane.instance.name, component.id, job.user, job.depth
    )
    origin = _origin(job) if job.user or job.depth else b""
    # Ids and tokens are texts without quotes or line ends, so they are joined as they are.
    body = b"".join(
        (
            b'{"requestId":"',
            job.request_id.encode(),
            b'","requestData":',
            job.data,
            b',"context":{"mcp_token":"',
            token.encode(),
            b'",',
            lane.context,
            origin,
            component.context,
            b"}",
        )
    )
    trace = f"X-Trace-ID: {job.trace_id}\r\n" if job.trace_id else ""
    return message("POST", "/execute", body, headers=f"X-Request-ID: {job.request_id}\r\n{trace}")


def _origin(job: Job) -> bytes:
    """What is added to the context of a job of a known user, or from inside, as JSON members."""
    members: dict[str, Any] = {"depth": job.depth}
    if job.user:
        members["userInfo"] = {"id": job.user, "isAuthenticated": True}
    return orjson.dumps(members)[1:-1] + b","


async def _outcome(lane: Lane, request_id: str) -> tuple[Reply | None, bool]:
    """What the instance says became of a request whose lane hung up, and whether it could be asked."""
    try:
        reply = await _control(lane, "GET", f"/outcome?requestId={quote(request_id)}", b"")
    except (OSError, ConnectionLost, TimeoutError):
        return None, False
    if reply.status != 200:
        return None, True
    try:
        found = orjson.loads(reply.body)
        return Reply(500, orjson.dumps({"error": found["code"], "details": found.get("message", "")})), True
    except (ValueError, KeyError, TypeError):
        return None, True


async def _cancel(lane: Lane, request_id: str) -> None:
    with contextlib.suppress(OSError, ConnectionLost, TimeoutError):
        await _control(lane, "POST", "/cancel", orjson.dumps({"requestId": request_id}))


def cancel_in_background(lane: Lane, request_id: str) -> None:
    """Tell the instance that nobody waits for this request any more."""
    task = asyncio.create_task(_cancel(lane, request_id))
    _background.add(task)  # the loop itself keeps no strong reference
    task.add_done_callback(_background.discard)


async def _control(lane: Lane, method: str, target: str, body: bytes) -> Reply:
    async with asyncio.timeout(CONTROL_SECONDS):
        connection = await connect(f"{lane.directory}/execute.sock")
        try:
            return await connection.request(message(method, target, body))
        finally:
            connection.close()
