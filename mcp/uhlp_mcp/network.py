"""The door for people's clients: `/mcp` and `/mcp/<app>` on a TCP port of the MCP daemon's own.

Checks where a request comes from and who sends it; what is asked is the endpoint's. Every request but the
probes of a service manager needs a credential.
"""

import asyncio
import logging
import socket
import time
from collections import Counter

import orjson
from aiohttp import web

from uhlp_core import sockets
from uhlp_core.cross_site import is_foreign_page, is_own_host
from uhlp_core.errors import NotFound, UhlpError
from uhlp_core.guess_limit import GuessLimit
from uhlp_core.settings import LOOPBACK, Settings
from uhlp_core.store import UNAVAILABLE
from uhlp_core.tokens import Unauthenticated
from uhlp_mcp.access import PERMISSION, Access, Forbidden
from uhlp_mcp.bearers import credential
from uhlp_mcp.community.registrations import SCOPE, Registrations
from uhlp_mcp.door_server import DoorServer
from uhlp_mcp.http import Endpoint, read_body, refusal, unauthenticated
from uhlp_mcp.protocol import STORE_AWAY
from uhlp_mcp.tools import Caller
from uhlp_state.api_keys import TooManyKeys

MAX_CONNECTIONS = 2048

MAX_OF_APP = 256
"""Requests of one app that are under way: no app's clients take all the connections."""

IDLE_SECONDS = 75.0
"""As most servers and proxies do."""

SHUTDOWN_SECONDS = 3.0
"""For calls under way when the daemon ends."""

_ROOT = "/mcp"

REGISTER = f"{_ROOT}/register"
"""No app has this id: `uhlp_core.ids.RESERVED_APP_IDS`."""

MAX_REGISTRATION_BYTES = 16 * 1024

_log = logging.getLogger(__name__)


class NetworkDoor:
    """Listens on one address."""

    def __init__(
        self, settings: Settings, endpoint: Endpoint, access: Access, registrations: Registrations
    ) -> None:
        self._names = LOOPBACK | {settings.mcp_bind.lower(), settings.domain.lower()}
        self._endpoint = endpoint
        self._access = access
        self._registrations = registrations
        self._limit = GuessLimit()
        self._connections = DoorServer(self._handle, MAX_CONNECTIONS, IDLE_SECONDS)
        self._under_way: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self.ready = False
        """Whether the daemon knows the apps that there are."""

    async def open(self, listener: socket.socket) -> None:
        """Serve from now on."""
        self._server = await asyncio.get_running_loop().create_server(
            self._connections, sock=listener, backlog=sockets.BACKLOG
        )
        _log.info("people's MCP clients are served on %s:%d", *listener.getsockname()[:2])

    async def close(self) -> None:
        """Take nothing new, and let calls under way finish for SHUTDOWN_SECONDS."""
        if self._server is not None:
            self._server.close()
            await self._connections.shutdown(SHUTDOWN_SECONDS)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not is_own_host(host, self._names):
            return refusal(421, "this is the platform's MCP address; apps are served by the gateway")
        if is_foreign_page(host, request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")):
            return refusal(403, "requests from pages of other sites are refused")
        path = request.raw_path.partition("?")[0]
        if path == "/healthz":
            return web.Response(text="ok\n")
        if path == "/readyz":
            return web.Response(text="ok\n") if self.ready else refusal(503, "starting")
        if path == _ROOT:
            return await self._answer(request, "")
        if path == REGISTER:
            return await self._register(request)
        if path.startswith(f"{_ROOT}/"):
            return await self._answer(request, path.removeprefix(f"{_ROOT}/"))
        return refusal(404, f"there is nothing here; an app's tools are at {_ROOT}/<app>")

    async def _answer(self, request: web.BaseRequest, target: str) -> web.StreamResponse:
        caller = await self._known(request, target)
        if isinstance(caller, web.Response):
            return caller
        if self._under_way[caller.app] >= MAX_OF_APP:
            return refusal(429, "too many requests of the app are under way", {"Retry-After": "1"})
        self._under_way[caller.app] += 1
        try:
            return await self._endpoint.handle(request, caller)
        finally:
            self._under_way[caller.app] -= 1
            if not self._under_way[caller.app]:
                del self._under_way[caller.app]

    async def _register(self, request: web.BaseRequest) -> web.Response:
        """Begin or renew the lease of a server that tells its address itself."""
        if request.method != "POST":
            return refusal(405, "register with POST", {"Allow": "POST"})
        body = await read_body(request, MAX_REGISTRATION_BYTES)
        try:
            document = orjson.loads(body or b"")
            target = str(document["app"])
        except (ValueError, KeyError, TypeError):
            return refusal(400, "send {app, name, url, leaseSeconds} as JSON")
        caller = await self._known(request, target)
        if isinstance(caller, web.Response):
            return caller
        if not caller.may_use(SCOPE):
            return refusal(
                403,
                "this credential may not register servers; an API key with the permission "
                f"`{PERMISSION}:{SCOPE}` may, and so may a token of "
                f"`uhlp token {caller.deployment} --tool {SCOPE}`",
            )
        try:
            lease = await self._registrations.register(caller, document)
        except NotFound as error:
            return refusal(404, str(error))
        except UNAVAILABLE:
            return refusal(503, STORE_AWAY, {"Retry-After": "1"})
        except UhlpError as error:
            return refusal(400, str(error))
        return web.Response(body=orjson.dumps(lease), content_type="application/json")

    async def _known(self, request: web.BaseRequest, target: str) -> Caller | web.Response:
        """Who sends the request, or the refusal of it."""
        shown, came = credential(request), time.monotonic()
        try:
            return await self._access.caller(target, shown)
        except Unauthenticated as error:
            if shown:
                _log.info("a credential for %r was refused", target[:80])
                if not await self._limit.delay(time.monotonic() - came):
                    return refusal(429, "too many wrong credentials", {"Retry-After": "1"})
            return unauthenticated(str(error), shown=bool(shown))
        except TooManyKeys as error:
            return refusal(429, str(error), {"Retry-After": f"{error.retry_after:.0f}"})
        except Forbidden as error:
            return refusal(403, str(error))
        except NotFound as error:
            return refusal(404, str(error))
        except UNAVAILABLE:
            return refusal(503, STORE_AWAY, {"Retry-After": "1"})
