"""The HTTP server behind a door: takes so many connections, and keeps none that asks nothing.

All doors are of one process, whose files and memory none of them may use up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

FIRST_REQUEST_SECONDS = 10.0
"""From a connection to the end of its first request's headers."""


class DoorServer:
    """Makes a protocol for each connection, as `loop.create_server` wants it."""

    def __init__(
        self,
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        limit: int,
        idle_seconds: float,
    ) -> None:
        """`limit` connections are open at the same time; further ones are closed at once.

        A connection is closed when it has not been used for `idle_seconds`.
        """
        self._handle = handle
        self._limit = limit
        self._silent: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}
        self._server = _Counting(
            self._heard,
            access_log=None,
            auto_decompress=False,
            handler_cancellation=True,
            keepalive_timeout=idle_seconds,
        )

    def __call__(self) -> asyncio.BaseProtocol:
        if self._server.open >= self._limit:
            return _Refusal()
        self._server.open += 1
        protocol = self._server()
        self._silent[protocol] = asyncio.get_running_loop().call_later(
            FIRST_REQUEST_SECONDS, self._give_up, protocol
        )
        return protocol

    async def shutdown(self, seconds: float) -> None:
        """Close all connections; what is under way may take `seconds` to finish."""
        for timer in self._silent.values():
            timer.cancel()
        self._silent.clear()
        await self._server.shutdown(seconds)

    async def _heard(self, request: web.BaseRequest) -> web.StreamResponse:
        timer = self._silent.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()
        return await self._handle(request)

    def _give_up(self, protocol: web.RequestHandler) -> None:
        del self._silent[protocol]
        protocol.force_close()


class _Counting(web.Server):
    """Counts its connections from the moment they are taken: uvloop takes many before it makes the first."""

    open = 0

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self.open -= 1
        super().connection_lost(handler, exc)


class _Refusal(asyncio.Protocol):
    """Hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since uvloop's transports are not of asyncio's classes.
        cast("asyncio.Transport", transport).abort()
