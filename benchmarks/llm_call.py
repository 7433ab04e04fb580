"""What `core.llm.generate` adds to a call of a model: against a plain HTTP client and the SDK doing it alone.

The provider is a fake on loopback that answers at once, so that nothing hides what is added: budget,
accounting, the app's log, the checks of the address. All wait for it one call at a time, in turn.
"""

import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import openai as openai_sdk
import uvloop

from benchmarks.measuring import Row, added, quietest
from support.fake_llm import FakeLlm
from support.llm_desk import KEY, Desk, openai
from support.private_redis import PrivateRedis
from uhlp_core import store
from uhlp_core.settings import Settings

BATCHES = 20
ROUNDS = 50
MAX_ADDED_MS = 1.0


def rows() -> list[Row]:
    ours, plain, by_sdk = quietest(uvloop.run(_measured()), reference=1)
    what = "core.llm.generate, added at the median to {} asking the provider"
    return [
        added(what.format("a plain HTTP client"), ours, plain, MAX_ADDED_MS),
        added(what.format("the official SDK"), ours, by_sdk, MAX_ADDED_MS),
    ]


async def _measured() -> list[list[float]]:
    """Of each batch the median milliseconds of our call, a plain client's and the SDK's."""
    with tempfile.TemporaryDirectory(prefix="ub-", dir="/tmp") as folder:
        server = PrivateRedis(Path(folder))
        server.start()
        try:
            async with FakeLlm().serving() as fake:
                return await _in_turn(Path(folder), server.url, fake)
        finally:
            server.kill()


async def _in_turn(folder: Path, redis_url: str, fake: FakeLlm) -> list[list[float]]:
    settings = Settings(home_dir=folder / "home", redis=redis_url, private_addresses=True)
    settings.home.create()
    redis = store.connect(settings)
    desk = Desk(settings, redis)
    desk.open()
    await desk.configure(openai(fake.openai, budgets=[{"usd": 1_000_000.0}]))
    question: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
    client = openai_sdk.AsyncOpenAI(api_key=KEY, base_url=fake.openai, max_retries=0)
    session = aiohttp.ClientSession()

    async def by_sdk() -> None:
        await client.chat.completions.create(**question)

    async def plain() -> None:
        url = f"{fake.openai}/chat/completions"
        async with session.post(url, json=question, headers={"Authorization": f"Bearer {KEY}"}) as response:
            assert (await response.json())["choices"]

    async def ours() -> None:
        await desk.ask()

    try:
        return [await _batch(ours, plain, by_sdk) for _ in range(BATCHES)]
    finally:
        await session.close()
        await client.close()
        await desk.tools.close()
        await desk.checker.close()
        await redis.aclose()


async def _batch(*works: Callable[[], Awaitable[None]]) -> list[float]:
    times: list[list[float]] = [[] for _ in works]
    for work in works:
        await work()
    for _ in range(ROUNDS):
        for work, taken in zip(works, times, strict=True):
            started = time.perf_counter()
            await work()
            taken.append((time.perf_counter() - started) * 1000)
    return [statistics.median(taken) for taken in times]
