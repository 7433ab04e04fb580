"""The way of one request: resolve the deployment, match, read the body, execute, respond, count, log.

Each step raises Problem to end a request early; everything is answered here, in one place, and nothing that
can wait (log files, Redis) is touched on the way.
"""

import logging
import time
from typing import Any
from urllib.parse import urlsplit

import orjson

from uhlp_core.ids import is_request_id, new_request_id
from uhlp_core.settings import Settings
from uhlp_gateway.access_log import CLIENT_GONE, AccessLine, AccessLog
from uhlp_gateway.api_access import ApiAccess, without_credentials
from uhlp_gateway.body import read_body
from uhlp_gateway.event_stream import EventStream, takes_events
from uhlp_gateway.execute import Job
from uhlp_gateway.http_server import Request
from uhlp_gateway.http_wire import Response
from uhlp_gateway.performer import Performer, check_admission, check_request
from uhlp_gateway.platform_pages import PlatformPages
from uhlp_gateway.problems import REQUEST_ID_HEADER, SERVER, Problem, printable, problem_response
from uhlp_gateway.request_data import request_data
from uhlp_gateway.resolve import Resolver
from uhlp_gateway.respond import BadResult, respond
from uhlp_gateway.static_files import StaticFiles
from uhlp_gateway.table import Component, Table
from uhlp_gateway.tables import Tables
from uhlp_state.routes import Match, MethodNotAllowed

JSON = "application/json"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_log = logging.getLogger(__name__)


class Exchange:
    """What is known of one request so far."""

    __slots__ = (
        "component",
        "detail",
        "path",
        "prefix",
        "request",
        "request_id",
        "started",
        "streams",
        "table",
    )

    def __init__(self, request: Request, request_id: str, path: str) -> None:
        self.request = request
        self.request_id = request_id
        self.started = time.perf_counter()
        self.streams = False
        """Whether it is over only when its stream is."""
        self.path = path
        """Raw, with query, as the app sees it."""
        self.prefix = ""
        """What was taken off the path that the client asked for."""
        self.detail = ""
        """For the app's log only."""
        self.table: Table | None = None
        self.component: Component | None = None


class Front:
    """Answers every request of the gateway."""

    def __init__(
        self,
        settings: Settings,
        tables: Tables,
        access_log: AccessLog,
        performer: Performer,
        pages: PlatformPages,
    ) -> None:
        self._tables = tables
        self._access_log = access_log
        self._performer = performer
        self._pages = pages
        self._resolver = Resolver(settings.domain)
        self._static = StaticFiles()
        self._access = ApiAccess(tables.by_deployment)

    async def handle(self, request: Request) -> Response:
        """Answer one request; raises nothing but CancelledError."""
        given = request.header(b"x-request-id")
        request_id = given if given is not None and is_request_id(given) else new_request_id()
        exchange = Exchange(request, request_id, request.target)
        status = CLIENT_GONE
        size = 0
        try:
            try:
                response = await self._answer(exchange)
            except Problem as problem:
                response = self._problem(exchange, problem)
            except Exception:
                _log.exception("a request failed", extra={"requestId": request_id})
                response = self._problem(
                    exchange, Problem(500, "INTERNAL_ERROR", "the gateway failed; its log says more")
                )
            status = response.status
            size = len(response.body)
            return response
        finally:
            if not exchange.streams:
                self._account(exchange, status, size)

    def refuse(self, status: int, detail: str) -> Response:
        """The response to what is no HTTP request."""
        return problem_response(status, "BAD_REQUEST", detail, new_request_id(), "", close=True)

    async def _answer(self, exchange: Exchange) -> Response:
        request = exchange.request
        host = request.header(b"host") or ""
        if not exchange.path.startswith("/"):
            host, exchange.path = _absolute(exchange.path, host)
        target = self._resolver.resolve(host, exchange.path)
        if target is None:
            return self._pages.respond(request, exchange.path, exchange.request_id)
        table = self._tables.by_deployment.get(target.deployment)
        if table is None:
            raise Problem(404, "APP_NOT_FOUND", "no app is served under this name")
        exchange.table, exchange.prefix = table, target.prefix
        if not target.path:
            return _redirect(exchange, "/", exchange.path.partition("?")[2])
        exchange.path = target.path
        check_admission(table)
        path, _, query = target.path.partition("?")
        method = request.method
        match = table.routes.match(path, method) if method in METHODS else None
        if isinstance(match, Match):
            return await self._run(exchange, table, match)
        return await self._without_route(exchange, table, match, path, query)

    async def _without_route(
        self, exchange: Exchange, table: Table, match: MethodNotAllowed | None, path: str, query: str
    ) -> Response:
        """Static files, then the other form of the path, then why there is nothing."""
        method = exchange.request.method
        if method not in METHODS:
            raise Problem(501, "METHOD_NOT_IMPLEMENTED", f"the method {printable(method)[:40]} is not served")
        allow = match.allow if match is not None else ()
        file = self._static.find(table, path)
        if file is not None:
            if method in ("GET", "HEAD"):
                return await self._static.respond(table, file, exchange.request, exchange.request_id)
            allow = (*allow, "GET", "HEAD")
        if allow:
            allowed = ", ".join(sorted({*allow, "OPTIONS"}))
            if method == "OPTIONS":
                headers = [("Allow", allowed), ("Server", SERVER), (REQUEST_ID_HEADER, exchange.request_id)]
                return Response(204, headers)
            raise Problem(
                405,
                "METHOD_NOT_ALLOWED",
                f"{method} is not among the methods of this path: {allowed}",
                headers={"Allow": allowed},
            )
        other = table.routes.slash_variant(path, method)
        if other is None and method in ("GET", "HEAD") and self._static.find(table, f"{path}/") is not None:
            other = f"{path}/"
        if other is not None and not other.startswith("//"):
            return _redirect(exchange, other, query)
        raise Problem(404, "NOT_FOUND", "nothing is served under this path")

    async def _run(self, exchange: Exchange, table: Table, match: Match[Component]) -> Response:
        request = exchange.request
        component = exchange.component = match.value
        headers, user = request.raw_headers, ""
        if component.permission is not None:
            user = await self._access.check(table, component.permission, request)
            headers = without_credentials(headers)
        body = await read_body(request, table.max_body) if request.has_body else b""
        if component.request_schema is not None:
            await check_request(component.request_schema, _json(request, body))
        data = request_data(
            request.method,
            exchange.path,
            match.pattern.text,
            match.parameters,
            headers,
            body,
        )
        job = Job(exchange.request_id, _trace_id(request), data, request.method, user)
        if component.stream and takes_events(request.header(b"accept")):
            reply = await self._performer.begin(table, component, job)
            if isinstance(reply, EventStream):
                return self._follow(exchange, reply)
        else:
            reply = await self._performer.perform(table, component, job)
        try:
            return await respond(reply, component.response_schema, exchange.request_id)
        except BadResult as error:
            exchange.detail = str(error)
            raise error.problem() from None

    def _follow(self, exchange: Exchange, stream: EventStream) -> Response:
        """Answer with a stream; the request is counted when that has ended."""

        def ended() -> None:
            exchange.detail = stream.detail
            self._account(exchange, stream.status or CLIENT_GONE, stream.size)

        exchange.streams = True
        stream.on_end = ended
        return stream.response()

    def _problem(self, exchange: Exchange, problem: Problem) -> Response:
        return problem.response(
            exchange.request_id,
            exchange.prefix + exchange.path.partition("?")[0],
            close=problem.status in (408, 413),
        )

    def _account(self, exchange: Exchange, status: int, size: int) -> None:
        seconds = time.perf_counter() - exchange.started
        table, component = exchange.table, exchange.component
        if table is None:
            return
        metrics = table.metrics if component is None else component.metrics
        metrics.count(status, seconds)
        self._access_log.add(
            AccessLine(
                time.time(),
                table.app,
                table.deployment,
                table.commit,
                metrics.component,
                exchange.request_id,
                exchange.request.method,
                exchange.path,
                status,
                seconds,
                size,
                exchange.detail,
            )
        )


def _absolute(target: str, host: str) -> tuple[str, str]:
    """Host and path of a request target that is no path (RFC 9112, 3.2)."""
    if "://" not in target:  # `*` of OPTIONS, or the authority of CONNECT
        return host, "/"
    parts = urlsplit(target)
    return parts.netloc, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _redirect(exchange: Exchange, path: str, query: str) -> Response:
    location = exchange.prefix + path + (f"?{query}" if query else "")
    headers = [("Location", location), ("Server", SERVER), (REQUEST_ID_HEADER, exchange.request_id)]
    return Response(308, headers)


def _trace_id(request: Request) -> str | None:
    """The id of the trace that the request belongs to: X-Trace-ID, or what traceparent names."""
    found = request.header(b"x-trace-id")
    if found is None:
        parent = request.header(b"traceparent")
        if parent is None:
            return None
        parts = parent.split("-")
        found = parts[1] if len(parts) >= 4 else ""
    return found if is_request_id(found) else None


def _json(request: Request, body: bytes) -> Any:
    """The parsed body of a request that must be JSON. Raises Problem."""
    if body and not _says_json(request.header(b"content-type")):
        raise Problem(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "this takes JSON: send the header `Content-Type: application/json` "
            "(`curl --json` does, `curl -d` does not)",
            headers={"Accept": JSON},
        )
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise Problem(400, "INVALID_JSON", f"the body is not JSON: {error}") from None


def _says_json(content_type: str | None) -> bool:
    """Whether the runners hand a body of this type over parsed, too."""
    if content_type == JSON:
        return True
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind == JSON or kind.endswith("+json")
