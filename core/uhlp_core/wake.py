"""Wake-ups: a nudge over pub/sub, and a counter that makes a lost nudge cost one poll interval at most.

A publisher writes its document, then calls `nudge`. A listener gets the deployment ids that were nudged;
None means "anything may have changed, look at everything" (after a reconnect, or when the counter ran
ahead of the nudges that arrived).
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

from uhlp_core import keys
from uhlp_core.store import UNAVAILABLE, Store

POLL_SECONDS = 1.0
RECONNECT_SECONDS = 0.2


def nudge(pipe: Any, kind: str, deployment: str) -> None:
    """Queue a wake-up on a Redis pipeline, in the same round trip as the document that it announces."""
    pipe.incr(keys.generation(kind))
    pipe.publish(keys.wake(kind), deployment)


async def send(store: Store, kind: str, deployment: str) -> None:
    """A wake-up on its own."""
    async with store.pipeline(transaction=False) as pipe:
        nudge(pipe, kind, deployment)
        await pipe.execute()


async def listen(store: Store, *kinds: str) -> AsyncIterator[tuple[str, str | None]]:
    """Yield (kind, deployment id) for every wake-up, for ever; survives the loss of Redis.

    Yields (kind, None) for each kind at the start, after every reconnect, and when wake-ups were missed.
    """
    while not _is_cancelled():
        try:
            async with store.pubsub() as subscription:
                await subscription.subscribe(*(keys.wake(kind) for kind in kinds))
                for _ in kinds:  # Confirmed: from here on every nudge arrives.
                    await subscription.get_message(timeout=None)
                epoch, seen = await _generations(store, kinds)
                for kind in kinds:
                    yield kind, None
                while not _is_cancelled():
                    message = await subscription.get_message(timeout=POLL_SECONDS)
                    if message is not None:
                        if message["type"] != "message":
                            continue  # The client has connected anew by itself, and subscribed.
                        kind = message["channel"].decode().removeprefix("uhlp:wake:")
                        seen[kind] += 1
                        yield kind, message["data"].decode()
                        continue
                    # A quiet interval: every nudge sent before the counters are read has arrived by now,
                    # or is lost. The client reconnects by itself, to a Redis that may have lost everything.
                    before, (epoch, now) = epoch, await _generations(store, kinds)
                    for kind in kinds:
                        if now[kind] > seen[kind] or epoch != before:
                            yield kind, None
                    seen = now
        except UNAVAILABLE:
            with contextlib.suppress(*UNAVAILABLE):
                await store.connection_pool.disconnect(inuse_connections=False)
            await asyncio.sleep(RECONNECT_SECONDS)


def _is_cancelled() -> bool:
    """The Redis client swallows a cancellation that comes while it connects; the request itself remains."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _generations(store: Store, kinds: tuple[str, ...]) -> tuple[bytes, dict[str, int]]:
    """Redis's epoch, which changes when its data is lost, and how often each kind was nudged in it."""
    async with store.pipeline(transaction=True) as pipe:
        pipe.set(keys.EPOCH, secrets.token_hex(8), nx=True)
        pipe.mget([keys.EPOCH, *(keys.generation(kind) for kind in kinds)])
        _, (epoch, *counts) = await pipe.execute()
    return epoch, {kind: int(count or 0) for kind, count in zip(kinds, counts, strict=True)}
