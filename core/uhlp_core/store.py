"""Connections to Redis and JSON documents in it."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
from redis._parsers.base import BaseParser
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from uhlp_core.settings import Settings

RETRIES = 3
"""A restart of the embedded Redis takes about 0.2 s; three tries with growing pauses bridge it."""

MAX_CONNECTIONS = 100
"""Of one process. Calls beyond them wait for one: a flood of one app delays the others, and fails no call."""

CONNECTION_SECONDS = 10
"""That a call waits for a connection: as long as for an answer."""

Store = Any
"""An asynchronous Redis client that answers bytes (the library's own types cannot say which it answers)."""


class Unwritable(ResponseError):
    """Redis takes no writes, since it cannot keep them: its disk is full, or broken."""


# The client has no class of its own for this answer, which must not be taken for a mistake of ours.
BaseParser.EXCEPTION_CLASSES["MISCONF"] = Unwritable

UNAVAILABLE = (
    RedisConnectionError,
    RedisTimeoutError,
    Unwritable,
    OutOfMemoryError,
    ConnectionError,
    TimeoutError,
)
"""What a call raises while Redis cannot be reached, or cannot write."""


class Script:
    """A Lua script that fails as commands do.

    Redis tells of a command that fails within a script in words of its own, which the client takes for a
    mistake in the script.
    """

    def __init__(self, store: Store, text: str) -> None:
        self._store = store
        self._text = text

    @cached_property
    def _registered(self) -> Any:
        return self._store.register_script(self._text)

    async def __call__(self, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """What the script returns. Raises what a command raises."""
        try:
            return await self._registered(keys=keys, args=args)
        except ResponseError as error:
            if "-MISCONF" in str(error) or "-OOM" in str(error):
                raise Unwritable(str(error)) from None
            raise


def connect(settings: Settings) -> Store:
    """A lazily connecting client for the Redis that the settings name; each process makes its own."""
    password = redis_password(settings)
    pool = BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=MAX_CONNECTIONS,
        timeout=CONNECTION_SECONDS,
        password=password,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), RETRIES),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
        socket_timeout=10,
        health_check_interval=0,
    )
    return Redis.from_pool(pool)


def redis_password(settings: Settings) -> str | None:
    """The embedded Redis's password, or None where the URL brings its own credentials."""
    path: Path = settings.home.secrets / "redis-password"
    return path.read_text().strip() if settings.embedded_redis and path.exists() else None


def dumps(document: Any) -> bytes:
    return orjson.dumps(document)


async def read(store: Store, key: str) -> dict[str, Any] | None:
    """The JSON document at `key`, or None."""
    raw = await store.get(key)
    return None if raw is None else orjson.loads(raw)


async def read_hash(store: Store, key: str) -> dict[str, Any]:
    """Every field of a hash of JSON documents."""
    raw: Mapping[bytes, bytes] = await store.hgetall(key)
    return {field.decode(): orjson.loads(value) for field, value in raw.items()}
