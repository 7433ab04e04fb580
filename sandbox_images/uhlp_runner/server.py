"""The runner's main process: the doors of `execute.sock`, and the life of everything behind them."""

import asyncio
import json
import os
import signal
import traceback
from pathlib import Path
from typing import Any, ClassVar, Protocol
from urllib.parse import parse_qs, urlsplit

from . import children, failure, http1, leftovers
from .config import Config
from .confine import Protection
from .events import Events
from .failure import Failure
from .http1 import BadRequest
from .output import Log
from .prompts import Prompts
from .request import PROMPT, Malformed, loads, parse

LISTEN_BACKLOG = 128

SWEEP_SECONDS = 0.5
"""How long a process that lost its parent may live on: it belongs to no request any more."""


class Engine(Protocol):
    """How requests are run: `jobs.Jobs` or `workers.Workers`."""

    @property
    def prepared(self) -> list[str]: ...
    @property
    def active(self) -> int: ...
    @property
    def served(self) -> int: ...
    @property
    def lanes(self) -> list[dict[str, Any]]: ...
    async def prepare(self, tree: str, components: list[dict[str, Any]]) -> list[dict[str, Any]]: ...
    async def execute(self, request: dict[str, Any], body: bytes) -> tuple[int, bytes]: ...
    def cancel(self, request_id: str) -> bool: ...
    async def outcome(self, request_id: str) -> Failure | None: ...
    async def close(self) -> None: ...


class Server:
    """Answers on `execute.sock` until it is drained."""

    def __init__(
        self, config: Config, log: Log, engine: Engine, prompts: Prompts, protection: Protection
    ) -> None:
        self._config = config
        self._log = log
        self._engine = engine
        self._prompts = prompts
        self._protection = protection
        self._busy = {"JIT": 0, "LLM": 0}
        self._draining = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Serve until SIGTERM or `POST /drain`, then until the last request is done."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._draining.set)
        socket_path = Path(self._config.dir) / "execute.sock"
        socket_path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(
            self._converse, socket_path, backlog=LISTEN_BACKLOG, limit=http1.HEAD_LIMIT
        )
        sweeping = asyncio.create_task(self._sweep())
        await self._draining.wait()
        self._log.write("info", "runner", "draining: no new request is taken")
        await self._idle.wait()
        server.close()
        sweeping.cancel()
        await self._engine.close()
        self._prompts.close()

    async def _sweep(self) -> None:
        """End processes that outlived the handler that started them, once handlers have run."""
        seen = 0
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if self._engine.served != seen or self._engine.active:
                seen = self._engine.served
                leftovers.kill_descendants(children.known)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        except asyncio.CancelledError:
            return  # The runner ends while a connection is idle: that is no error, and nothing to log.
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read one request and answer it; False if the connection is to be closed."""
        request_id = None
        close = True
        events = Events(writer)
        try:
            try:
                head = (await reader.readuntil(b"\r\n\r\n"))[:-2]
            except asyncio.LimitOverrunError:
                raise BadRequest(431, f"the head is longer than {http1.HEAD_LIMIT} bytes") from None
            lowered = head.lower()
            line = head[: head.index(b"\r\n")].split(b" ")
            if len(line) != 3 or line[2] != b"HTTP/1.1":
                raise BadRequest(400, "not a request of HTTP/1.1")
            request_id = http1.header(head, lowered, b"x-request-id")
            if request_id is not None and not http1.is_printable(request_id):
                request_id = None
            body = b""
            if line[0] != b"GET":
                body = await reader.readexactly(http1.content_length(lowered))
            close = http1.header(head, lowered, b"connection") == "close"
            status, answer, request_id = await self._answer(
                line[0].decode(), line[1].decode(), body, request_id, events
            )
        except BadRequest as error:
            status, answer = error.status, http1.error_body(http1.REASONS[error.status], str(error))
        except (ConnectionError, asyncio.IncompleteReadError):
            raise  # The peer is gone: there is nobody to answer.
        except Exception:
            self._log.write("error", "runner", traceback.format_exc())
            status, answer = (
                500,
                http1.error_body("Internal Server Error", "the runner failed; see the app's log"),
            )
        if events.take(status):
            close = True
            events.end(status, answer)
        else:
            writer.write(http1.response(status, answer, request_id, close))
        await writer.drain()
        return not close

    async def _answer(
        self, method: str, target: str, body: bytes, request_id: str | None, events: Events
    ) -> tuple[int, bytes, str | None]:
        url = urlsplit(target)
        if (method, url.path) == ("POST", "/execute"):
            return await self._execute(body, request_id, events)
        door = self._DOORS.get((method, url.path))
        if door is None:
            known = url.path == "/execute" or any(path == url.path for _, path in self._DOORS)
            status = 405 if known else 404
            return (
                status,
                http1.error_body(http1.REASONS[status], f"{method} {url.path}: no such door"),
                request_id,
            )
        document: Any = None
        if method == "POST" and body:
            try:
                document = loads(body)
            except ValueError as error:
                return 400, http1.error_body("Bad Request", f"the body is not JSON: {error}"), request_id
        status, answer = await door(self, document if method == "POST" else parse_qs(url.query))
        return status, json.dumps(answer).encode(), request_id

    async def _execute(
        self, body: bytes, request_id: str | None, events: Events
    ) -> tuple[int, bytes, str | None]:
        try:
            request = parse(body, request_id, prompts=True)
        except Malformed as error:
            return 400, http1.error_body("Bad Request", str(error)), request_id
        request_id = events.request_id = request["requestId"]
        if self._draining.is_set():
            return 503, http1.error_body("Service Unavailable", "this instance is draining"), request_id
        context = request["context"]
        kind = "LLM" if PROMPT in context["taskDetails"] else "JIT"
        # Each kind has its own room: what waits for an LLM keeps no handler from running.
        if self._busy[kind] >= self._config.concurrency:
            why = f"{self._busy[kind]} {kind} requests are running, which is this instance's concurrency"
            return 429, http1.error_body("Too Many Requests", why), request_id
        self._busy[kind] += 1
        self._idle.clear()
        try:
            if kind == "LLM":
                events.wanted = context.get("stream") is True
                status, answer = await self._prompts.execute(request, events if events.wanted else None)
            else:
                status, answer = await self._engine.execute(request, body)
        finally:
            self._busy[kind] -= 1
            if not any(self._busy.values()):
                self._idle.set()
        return status, answer, request_id

    async def _prepare(self, document: Any) -> tuple[int, Any]:
        try:
            tree = document["tree"]
            components = [
                {name: component[name] for name in ("componentId", "script", "function")}
                for component in document["components"]
            ]
            prompts = [
                {name: prompt[name] for name in ("componentId", "path", "prompt")}
                for prompt in document.get("prompts", ())
            ]
        except (KeyError, TypeError) as error:
            return 400, {"error": "Bad Request", "details": f"missing or of the wrong type: {error}"}
        problems = await self._prompts.check(prompts)
        # A pool that only asks LLMs keeps no process warm for handlers.
        if not problems and (components or not prompts):
            problems = await self._engine.prepare(tree, components)
        if not problems:
            if prompts:
                self._prompts.keep(tree, prompts)
            return 200, {"ready": True}
        return 422, {"error": failure.HANDLER_IMPORT_FAILED, "details": problems}

    async def _readyz(self, _: Any) -> tuple[int, Any]:
        if self._draining.is_set():
            return 503, {"error": "Service Unavailable", "details": "draining"}
        return 200, {
            "lanes": [*self._engine.lanes, self._prompts.lane],
            "prepared": list(dict.fromkeys([*self._engine.prepared, *self._prompts.prepared])),
            "protection": {"inForce": self._protection.in_force, "missing": self._protection.missing},
        }

    async def _healthz(self, _: Any) -> tuple[int, Any]:
        return 200, {"ok": True}

    async def _cancel(self, document: Any) -> tuple[int, Any]:
        request_id = document.get("requestId") if isinstance(document, dict) else None
        if not isinstance(request_id, str):
            return 400, {"error": "Bad Request", "details": "requestId must be text"}
        if not (self._engine.cancel(request_id) or self._prompts.cancel(request_id)):
            return 404, {"error": "Not Found", "details": f"no request {request_id!r} is running"}
        return 200, {"cancelled": True}

    async def _outcome(self, query: Any) -> tuple[int, Any]:
        request_id = query.get("requestId", [""])[0]
        outcome = await self._engine.outcome(request_id)
        if outcome is None:
            return 404, {"error": "Not Found", "details": f"nothing is known of request {request_id!r}"}
        return 200, {"code": outcome.code, "message": outcome.message}

    async def _stats(self, _: Any) -> tuple[int, Any]:
        usage = leftovers.usage(os.getpid())
        return 200, {
            "active": self._engine.active + self._prompts.active,
            "served": self._engine.served + self._prompts.served,
            "rssBytes": usage.rss_bytes,
            "cpuSeconds": usage.cpu_seconds,
            "children": usage.processes - 1,
        }

    async def _drain(self, _: Any) -> tuple[int, Any]:
        self._draining.set()
        return 200, {"draining": True}

    _DOORS: ClassVar[dict[tuple[str, str], Any]] = {
        ("POST", "/prepare"): _prepare,
        ("GET", "/readyz"): _readyz,
        ("GET", "/healthz"): _healthz,
        ("GET", "/outcome"): _outcome,
        ("GET", "/stats"): _stats,
        ("POST", "/cancel"): _cancel,
        ("POST", "/drain"): _drain,
    }
