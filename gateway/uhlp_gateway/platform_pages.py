"""What the bare host serves: a list of the apps, health, readiness and metrics."""

import hmac
from collections.abc import Callable
from html import escape

from uhlp_core.settings import LOOPBACK, Settings
from uhlp_gateway import metrics
from uhlp_gateway.http_server import Request
from uhlp_gateway.http_wire import Response
from uhlp_gateway.problems import REQUEST_ID_HEADER, SERVER, Problem
from uhlp_gateway.tables import Tables

PLAIN = "text/plain; charset=utf-8"


class PlatformPages:
    """Answers on the bare host. `draining` makes `/readyz` say 503 before the listener closes."""

    def __init__(self, settings: Settings, tables: Tables, before_scrape: Callable[[], None]) -> None:
        self.draining = False
        self._settings = settings
        self._tables = tables
        self._before_scrape = before_scrape

    def respond(self, request: Request, target: str, request_id: str) -> Response:
        """The page for a raw path; raises Problem."""
        path = target.partition("?")[0]
        if path not in ("/", "/healthz", "/readyz", "/metrics"):
            raise Problem(404, "NOT_FOUND", "nothing is served under this path")
        if request.method not in ("GET", "HEAD"):
            raise Problem(
                405, "METHOD_NOT_ALLOWED", "only GET is served here", headers={"Allow": "GET, HEAD"}
            )
        if path == "/":
            return _page("text/html; charset=utf-8", self._list().encode(), request_id)
        if path == "/healthz":
            return _page(PLAIN, b"ok\n", request_id)
        if path == "/readyz":
            return self._ready(request_id)
        if not self._may_scrape(request):
            raise Problem(404, "NOT_FOUND", "nothing is served under this path")
        self._before_scrape()
        return _page(metrics.CONTENT_TYPE, metrics.exposition(), request_id)

    def _ready(self, request_id: str) -> Response:
        if self.draining:
            raise Problem(503, "DRAINING", "this gateway is about to end")
        if not self._tables.loaded.is_set():
            raise Problem(503, "STARTING", "the routing tables have not been read yet")
        return _page(PLAIN, b"ready\n", request_id)

    def _may_scrape(self, request: Request) -> bool:
        """Beyond loopback only the operator may, and to others the page does not exist."""
        if self._settings.bind in LOOPBACK:
            return True
        token = self._settings.operator_token
        given = request.header(b"authorization") or ""
        return token is not None and hmac.compare_digest(
            given.encode("utf-8", "surrogateescape"), f"Bearer {token}".encode()
        )

    def _list(self) -> str:
        items = "".join(
            f'<li><a href="/apps/{escape(deployment)}/">{escape(deployment)}</a></li>'
            for deployment in sorted(self._tables.by_deployment)
        )
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>UHLP</title>'
            f"<h1>Apps</h1><ul>{items or '<li>none yet</li>'}</ul></html>\n"
        )


def _page(content_type: str, body: bytes, request_id: str) -> Response:
    headers = [
        ("Content-Type", content_type),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Server", SERVER),
        (REQUEST_ID_HEADER, request_id),
    ]
    return Response(200, headers, body)
