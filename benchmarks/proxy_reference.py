"""What the gateway is measured against: a minimal aiohttp reverse proxy in front of a bare aiohttp app.

Two programs, one process each: `proxy_reference.py app PORT` and `proxy_reference.py proxy PORT APP_PORT`.
No routing, no limits, no log, no metrics; uvloop in both.
"""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web


async def _app(port: int) -> None:
    async def hello(request: web.Request) -> web.Response:
        document = await request.json()
        return web.json_response({"hello": document["name"]})

    application = web.Application()
    application.router.add_post("/hello", hello)
    await _serve(application, port)


async def _proxy(port: int, upstream: int) -> None:
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.Response:
            async with session.request(
                request.method,
                f"http://127.0.0.1:{upstream}{request.path_qs}",
                headers=request.headers,
                data=await request.read(),
            ) as response:
                return web.Response(
                    status=response.status, headers=response.headers, body=await response.read()
                )

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", forward)
        await _serve(application, port)


async def _serve(application: web.Application, port: int) -> None:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    role, *ports = sys.argv[1:]
    uvloop.run((_app if role == "app" else _proxy)(*map(int, ports)))
