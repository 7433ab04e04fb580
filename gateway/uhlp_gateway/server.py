"""The gateway process: the public listener, the tasks around it, and an orderly end."""

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import Callable

from uhlp_core import sockets, store
from uhlp_core.daemon import cancel
from uhlp_core.settings import Settings
from uhlp_core.tokens import TokenCache, TokenKey
from uhlp_gateway import metrics, schemas
from uhlp_gateway.access_log import FLUSH_SECONDS, AccessLog
from uhlp_gateway.demand import Demand
from uhlp_gateway.front import Front
from uhlp_gateway.http_server import HttpServer
from uhlp_gateway.inside_door import InsideDoor
from uhlp_gateway.performer import Performer
from uhlp_gateway.platform_pages import PlatformPages
from uhlp_gateway.tables import Tables
from uhlp_state.json_schema.check_pool import CheckPool

DRAIN_SECONDS = 10.0
"""For requests under way when the gateway is told to stop."""

FIRST_LOAD_SECONDS = 5.0
"""How long connections wait for the first tables before they are answered without."""

_log = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event, listener: socket.socket | None = None) -> None:
    """Serve until `stop`; then finish what is under way and leave.

    `listener` defaults to the inherited socket named `gateway`, or binds the settings' address. Raises
    OSError if that is taken.
    """
    listener = listener or sockets.inherited("gateway") or sockets.listen_tcp(settings.bind, settings.port)
    redis = store.connect(settings)
    checks = CheckPool(schemas.PROGRAM)
    tables = Tables(redis, settings.home, checks)
    access_log = AccessLog(settings.home)
    demand = Demand(redis, tables)

    def collect() -> None:
        metrics.collect(tables.pools)

    pages = PlatformPages(settings, tables, collect)
    performer = Performer(tables, demand, TokenCache(TokenKey.of(settings.home)))
    front = Front(settings, tables, access_log, performer, pages)
    server = HttpServer(front.handle, front.refuse)
    inside = InsideDoor(tables, performer, access_log)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(checks.close)
        async with asyncio.TaskGroup() as group:
            work = (
                tables.follow(),
                tables.beat(),
                access_log.run(),
                demand.run(),
                server.sweep(),
                _every_flush(collect),
            )
            tasks = [group.create_task(one) for one in work]
            await _loaded(tables, stop)
            accepting = await asyncio.get_running_loop().create_server(
                server, sock=listener, backlog=sockets.BACKLOG
            )
            async with inside.listening(settings.home.gateways / f"{tables.gateway_id}.sock"):
                gc.collect()
                gc.freeze()  # What is there now stays: no collection needs to look at it.
                _log.info("serving on %s:%s", *listener.getsockname()[:2])
                await stop.wait()
                pages.draining = True
                accepting.close()
                # Before the internal door: a request under way may need it.
                await server.shutdown(DRAIN_SECONDS)
            await cancel(tasks)
        tables.close()
        await access_log.flush()
        collect()
        await tables.leave()


async def _loaded(tables: Tables, stop: asyncio.Event) -> None:
    """Wait for the first tables: a gateway that was started again must not say that apps are unknown."""
    waits = [asyncio.ensure_future(event.wait()) for event in (tables.loaded, stop)]
    await asyncio.wait(waits, timeout=FIRST_LOAD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _every_flush(collect: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        collect()
