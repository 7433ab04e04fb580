"""What every request to the control surface passes: log line, host, origin, operator token.

The control surface has a port of its own; these checks keep pages of apps, and of other sites, from using a
person's browser to reach it.
"""

import base64
import binascii
import hmac
import logging
import time
from urllib.parse import unquote

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from uhlp_core.cross_site import is_foreign_page, is_own_host
from uhlp_core.guess_limit import GuessLimit
from uhlp_core.ids import is_request_id, new_request_id
from uhlp_core.settings import LOOPBACK, Settings

MAX_PUSHER = 100
"""Characters of a pusher's name."""
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Answered without a token: they tell nothing."""
DEFAULT_PUSHER = "git over http"

PUSHER = web.RequestKey("pusher", str)
REQUEST_ID = web.RequestKey("request_id", str)

_log = logging.getLogger(__name__)


def text_response(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    """A plain answer; Git clients print the text of an error as `remote: …`."""
    return web.Response(
        status=status, text=text + "\n", headers={"Cache-Control": "no-store", **(headers or {})}
    )


@web.middleware
async def log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line per request, with the id that the client sent or got."""
    sent = request.headers.get("X-Request-ID", "")
    request[REQUEST_ID] = sent if is_request_id(sent) else new_request_id()
    started, status = time.monotonic(), 499
    try:
        response = await handler(request)
        status = response.status
        if not response.prepared:
            response.headers["X-Request-ID"] = request[REQUEST_ID]
        return response
    except web.HTTPException as error:
        status = error.status
        return text_response(error.status, error.reason or "")
    finally:
        _log.info(
            "%s %s %d",
            request.method,
            request.rel_url.path,
            status,
            extra={"requestId": request[REQUEST_ID], "seconds": round(time.monotonic() - started, 4)},
        )


def check_host(settings: Settings) -> Middleware:
    """Refuse requests that came by another name than the platform's own, or from a page of another site."""
    names = LOOPBACK | {settings.control_bind.lower(), settings.domain.lower()}

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not is_own_host(host, names):
            return text_response(
                421, "this is the platform's control address; apps are served by the gateway"
            )
        if is_foreign_page(host, request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")):
            return text_response(403, "requests from pages of other sites are refused")
        return await handler(request)

    return checked


def check_token(settings: Settings) -> Middleware:
    """Demand the operator token, if one is set, as the password of HTTP basic authentication."""
    token = settings.operator_token.encode() if settings.operator_token else None
    limit = GuessLimit()

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        user, password = _credentials(request.headers.get("Authorization", ""))
        printable = "".join(char for char in user if char.isprintable())
        request[PUSHER] = printable[:MAX_PUSHER] or DEFAULT_PUSHER
        if token is None or request.path in OPEN_PATHS or hmac.compare_digest(password, token):
            return await handler(request)
        # The first request of every Git client comes without credentials: only a wrong one is made to wait.
        if password and not await limit.delay():
            return text_response(429, "too many wrong tokens; try again in a second", {"Retry-After": "1"})
        return text_response(
            401,
            "the operator token is needed as password (any user name); it is in UHLP_OPERATOR_TOKEN of the "
            "platform",
            {"WWW-Authenticate": 'Basic realm="UHLP", charset="UTF-8"'},
        )

    return checked


def _credentials(header: str) -> tuple[str, bytes]:
    """User and password of a basic Authorization header; empty where there are none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", b""
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return "", b""
    return unquote(user.decode("utf-8", "replace")), password
