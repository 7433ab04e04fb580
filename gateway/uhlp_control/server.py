"""The control daemon: Git over HTTP on a port of its own, where no app's host name leads."""

import asyncio
import logging
import shutil
import socket

from aiohttp import web

from uhlp_control.git_http import GitHttp
from uhlp_control.guards import check_host, check_token, log_requests, text_response
from uhlp_control.new_apps import NewApps
from uhlp_core import sockets
from uhlp_core.errors import Unavailable
from uhlp_core.settings import Settings

SHUTDOWN_SECONDS = 10.0
"""How long pushes and fetches may still take once the daemon is asked to end."""

_log = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event, listener: socket.socket | None = None) -> None:
    """Serve until `stop` is set.

    Args:
        listener: the socket; by default the one handed down as `control`, else the configured address.

    Raises:
        InvalidInput: the address is open to others and there is no operator token.
        Unavailable: Git is not installed.
        OSError: the address is taken.
    """
    settings.check_exposure()
    if shutil.which("git") is None:
        raise Unavailable("the `git` program is not on the PATH: install Git")
    settings.home.create()
    if listener is None:
        listener = sockets.inherited("control") or sockets.listen_tcp(
            settings.control_bind, settings.effective_control_port
        )
    new_apps = NewApps(settings)
    # handler_cancellation: when a client goes, so does its Git process.
    runner = web.AppRunner(
        application(settings, new_apps),
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    sweeping = asyncio.create_task(new_apps.sweep_forever())
    try:
        await web.SockSite(runner, listener, backlog=sockets.BACKLOG).start()
        _log.info("control surface listens on %s:%d", *listener.getsockname()[:2])
        await stop.wait()
    finally:
        sweeping.cancel()
        await runner.cleanup()


def application(settings: Settings, new_apps: NewApps) -> web.Application:
    """The routes and what guards them."""
    app = web.Application(middlewares=[log_requests, check_host(settings), check_token(settings)])

    async def alive(_: web.Request) -> web.Response:
        return text_response(200, "ok")

    async def ready(_: web.Request) -> web.Response:
        if (settings.home.hooks / "pre-receive").exists():
            return text_response(200, "ok")
        return text_response(503, "the hooks are not installed yet: pushes would not be validated")

    app.add_routes([web.get("/healthz", alive), web.get("/readyz", ready)])
    app.add_routes(GitHttp(settings, new_apps).routes())
    return app
