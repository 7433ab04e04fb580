"""Runtime state of apps: JSON values in Redis, under a name space per deployment (specification 3.3.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from redis.exceptions import ResponseError

from uhlp_core import keys
from uhlp_core.errors import InvalidInput, Unavailable
from uhlp_core.ids import Deployment
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_state.runtime_quota import CountedValues

MAX_KEY_BYTES = 512
"""Keys are names; a document used as a key costs memory in every index."""
MAX_VALUE_BYTES = 1024 * 1024
"""As JSON. Redis serves all apps on one thread: larger values would make the others wait."""
MAX_TTL_SECONDS = 10 * 365 * 24 * 3600
"""Ten years; beyond some 290 million years Redis refuses with an unclear text."""
MAX_INTEGER = 2**63 - 1
"""What Redis counts to."""


@dataclass(frozen=True, slots=True)
class RuntimeValue:
    """`GetRuntimeValueResponse`."""

    found: bool
    value: Any = None

    def to_json(self) -> dict[str, Any]:
        return {"found": self.found, "value": self.value} if self.found else {"found": False}


class RuntimeState:
    """The runtime half of the state manager. Every method raises Unavailable while Redis is gone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._values = CountedValues(store)

    async def set_runtime_value(
        self, deployment: str, key: str, value: Any, ttl_seconds: int | None = None
    ) -> None:
        """Set a value; with `ttl_seconds` it goes by itself, without it stays.

        Raises:
            InvalidInput: the key, the TTL, or the value (not JSON, or too large) cannot be taken.
            QuotaExceeded: the deployment's values would take more than MAX_DEPLOYMENT_BYTES together.
        """
        name, ttl = _redis_key(deployment, key), _ttl(ttl_seconds)
        encoded = _encode(value)
        async with _reaching_redis():
            await self._values.set(_checked(deployment), name, encoded, ttl)

    async def get_runtime_value(self, deployment: str, key: str) -> RuntimeValue:
        """The value of a key. Raises InvalidInput for a key that cannot be."""
        async with _reaching_redis():
            raw = await self._store.get(_redis_key(deployment, key))
        return RuntimeValue(False) if raw is None else RuntimeValue(True, orjson.loads(raw))

    async def delete_runtime_value(self, deployment: str, key: str) -> bool:
        """Delete a key; tells whether it was there. Raises InvalidInput for a key that cannot be."""
        async with _reaching_redis():
            return await self._values.delete(_checked(deployment), _redis_key(deployment, key))

    async def increment_runtime_value(
        self, deployment: str, key: str, amount: int = 1, ttl_seconds: int | None = None
    ) -> int:
        """Add to a whole number, which starts at 0, in one step; returns the sum.

        `ttl_seconds` counts from when the key is made; later increments do not prolong it.

        Raises:
            InvalidInput: the value is not a whole number, or the sum would leave 64 bits.
            QuotaExceeded: as for `set_runtime_value`.
        """
        name, ttl = _redis_key(deployment, key), _ttl(ttl_seconds)
        if isinstance(amount, bool) or not isinstance(amount, int) or abs(amount) > MAX_INTEGER:
            raise InvalidInput(f"an increment is a whole number of 64 bits, not {str(amount)[:40]!r}")
        try:
            async with _reaching_redis():
                return await self._values.increment(_checked(deployment), name, amount, ttl)
        except ResponseError as error:
            if "overflow" in str(error):
                raise InvalidInput(f"{key!r} would leave the range of 64-bit whole numbers") from None
            raise InvalidInput(
                f"the value of {key!r} is not a whole number, so nothing can be added to it: set it first",
                code="NOT_A_NUMBER",
            ) from None

    async def delete_all_runtime_values(self, deployment: str) -> int:
        """Delete everything that a deployment has stored; returns how many keys went."""
        checked = _checked(deployment)
        async with _reaching_redis():
            return await self._values.delete_all(checked)


@asynccontextmanager
async def _reaching_redis() -> AsyncIterator[None]:
    try:
        yield
    except UNAVAILABLE as error:
        raise Unavailable(f"runtime state cannot be reached at the moment: {error}") from error


def _checked(deployment: str) -> str:
    """A deployment id has no characters that a pattern of Redis would read as its own."""
    return Deployment.parse(deployment).id


def _redis_key(deployment: str, key: str) -> str:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidInput("a key must be valid Unicode text") from None
    if not 1 <= size <= MAX_KEY_BYTES:
        raise InvalidInput(f"a key has 1 to {MAX_KEY_BYTES} bytes, this one has {size}")
    if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in key):
        raise InvalidInput("a key may not hold control characters")
    return keys.runtime(_checked(deployment), key)


def _ttl(seconds: int | None) -> int | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= MAX_TTL_SECONDS:
        raise InvalidInput(f"ttl_seconds is a whole number from 1 to {MAX_TTL_SECONDS}, not {seconds!r}")
    return seconds


def _encode(value: Any) -> bytes:
    try:
        encoded = orjson.dumps(value)
    except TypeError as error:
        raise InvalidInput(f"the value is not JSON: {error}") from None
    if len(encoded) > MAX_VALUE_BYTES:
        raise InvalidInput(f"the value has {len(encoded)} bytes as JSON, more than {MAX_VALUE_BYTES}")
    return encoded
