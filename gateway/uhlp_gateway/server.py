"""The gateway process: the public listener, the tasks around it, and an orderly end."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from aiohttp import web

from uhlp_core import sockets, store
from uhlp_core.settings import Settings
from uhlp_gateway import metrics
from uhlp_gateway.access_log import FLUSH_SECONDS, AccessLog
from uhlp_gateway.demand import Demand
from uhlp_gateway.front import Front
from uhlp_gateway.platform_pages import PlatformPages
from uhlp_gateway.tables import Tables

DRAIN_SECONDS = 10.0
"""For requests under way when the gateway is told to stop."""

CLOSE_SECONDS = 1.0
"""For connections that are still busy after that, before they are cut."""

KEEPALIVE_SECONDS = 75.0
"""An idle client connection, or one that never finishes its request's head, is closed after this."""

LINGER_SECONDS = 2.0
"""How long the rest of a refused body is read, so that the client gets to see the refusal."""

MAX_HEADER_BYTES = 16 * 1024
"""One header line, or the request line."""

_log = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event, listener: socket.socket | None = None) -> None:
    """Serve until `stop`; then finish what is under way and leave.

    `listener` defaults to the inherited socket named `gateway`, or binds the settings' address. Raises
    OSError if that is taken.
    """
    listener = listener or sockets.inherited("gateway") or sockets.listen_tcp(settings.bind, settings.port)
    redis = store.connect(settings)
    tables = Tables(redis, settings.home)
    access_log = AccessLog(settings.home)
    demand = Demand(redis, settings.preview_idle_seconds)

    def collect() -> None:
        metrics.collect(tables.pools)

    pages = PlatformPages(settings, tables, collect)
    front = Front(settings, tables, access_log, demand, pages)
    server = web.Server(
        front.handle,
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=LINGER_SECONDS,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        async with asyncio.TaskGroup() as group:
            work = (tables.follow(), tables.beat(), access_log.run(), demand.run(), _every_flush(collect))
            tasks = [group.create_task(one) for one in work]
            accepting = await asyncio.get_running_loop().create_server(
                server, sock=listener, backlog=sockets.BACKLOG
            )
            _log.info("serving on %s:%s", *listener.getsockname()[:2])
            await stop.wait()
            pages.draining = True
            accepting.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await front.idle()
            await server.shutdown(CLOSE_SECONDS)
            for task in tasks:
                task.cancel()
        tables.close()
        await access_log.flush()
        collect()
        await tables.leave()


async def _every_flush(collect: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        collect()
