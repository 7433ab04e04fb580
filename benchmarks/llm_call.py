"""What `core.llm.generate` adds to a call of a model: against the SDK calling the same provider directly.

The provider is a fake on loopback that answers at once, so that nothing hides what is added: budget,
accounting, the app's log, the checks of the address. Both wait for it one call at a time, in turn.
"""

import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import openai as openai_sdk
import uvloop

from benchmarks.measuring import Row
from support.fake_llm import FakeLlm
from support.llm_desk import KEY, Desk, openai
from support.private_redis import PrivateRedis
from uhlp_core import store
from uhlp_core.settings import Settings

ROUNDS = 500
MAX_ADDED_MS = 1.0


def rows() -> list[Row]:
    ours, direct = uvloop.run(_measured())
    added = ours - direct
    return [
        Row(
            "core.llm.generate, added to the SDK's own call (median)",
            f"{ours:.2f} ms",
            f"{direct:.2f} ms",
            added / MAX_ADDED_MS,
            f"≤ {MAX_ADDED_MS:g} ms added, as 1 ×",
            added <= MAX_ADDED_MS,
        )
    ]


async def _measured() -> tuple[float, float]:
    """Median milliseconds of our call and of the SDK's."""
    with tempfile.TemporaryDirectory(prefix="ub-", dir="/tmp") as folder:
        server = PrivateRedis(Path(folder))
        server.start()
        try:
            async with FakeLlm().serving() as fake:
                return await _in_turn(Path(folder), server.url, fake)
        finally:
            server.kill()


async def _in_turn(folder: Path, redis_url: str, fake: FakeLlm) -> tuple[float, float]:
    settings = Settings(home_dir=folder / "home", redis=redis_url, private_addresses=True)
    settings.home.create()
    redis = store.connect(settings)
    desk = Desk(settings, redis)
    desk.open()
    await desk.configure(openai(fake.openai, budgets=[{"usd": 1_000_000.0}]))
    client = openai_sdk.AsyncOpenAI(api_key=KEY, base_url=fake.openai, max_retries=0)

    async def direct() -> None:
        await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=100
        )

    async def ours() -> None:
        await desk.ask()

    try:
        times: dict[Callable[[], Awaitable[None]], list[float]] = {ours: [], direct: []}
        for work in times:
            await work()
        for _ in range(ROUNDS):
            for work, taken in times.items():
                started = time.perf_counter()
                await work()
                taken.append((time.perf_counter() - started) * 1000)
        return statistics.median(times[ours]), statistics.median(times[direct])
    finally:
        await client.close()
        await desk.tools.close()
        await desk.checker.close()
        await redis.aclose()
