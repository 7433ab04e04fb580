"""Writes runtime values, and keeps those of one deployment within bounds: all apps share one Redis.

A counter per deployment is changed together with the values. Values that expire tell nobody, so it may only
be too high; where that would refuse a write, the values are counted anew, not more often than once a minute.
"""

from __future__ import annotations

from typing import Any

from uhlp_core import keys
from uhlp_core.errors import QuotaExceeded
from uhlp_core.store import Script, Store

MAX_DEPLOYMENT_BYTES = 256 * 1024 * 1024
"""Of all values of a deployment with their keys, and what Redis needs beside them."""

OVERHEAD_BYTES = 128
"""What Redis needs beside a value and its key, about: its entries in the tables of keys and of expiries."""

RECOUNT_SECONDS = 60
"""Counting goes through all keys of Redis, some hundred in a millisecond."""

SCAN_COUNT = 500
"""Keys looked at per round trip: about a millisecond of Redis's time."""

_COMMON = """
local used = redis.call('GET', KEYS[2])
local function size()
  local bytes = redis.call('STRLEN', KEYS[1])
  return bytes == 0 and 0 or bytes + #KEYS[1] + tonumber(ARGV[2])
end
local before = size()
"""

_SET = f"""
{_COMMON}
if not used then return {{'unknown'}} end
local grows = #ARGV[3] + #KEYS[1] + tonumber(ARGV[2]) - before
if grows > 0 and used + grows > tonumber(ARGV[1]) then return {{'full'}} end
if ARGV[4] == '' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
end
redis.call('INCRBY', KEYS[2], grows)
return {{'done'}}
"""

# The sum is answered as text: a script's numbers would lose the last digits of large ones.
_INCREMENT = f"""
{_COMMON}
if not used then return {{'unknown'}} end
if before == 0 then
  if used + #KEYS[1] + tonumber(ARGV[2]) + 20 > tonumber(ARGV[1]) then return {{'full'}} end
  if ARGV[4] ~= '' then redis.call('SET', KEYS[1], 0, 'EX', ARGV[4]) end
end
redis.call('INCRBY', KEYS[1], ARGV[3])
redis.call('INCRBY', KEYS[2], size() - before)
return {{'done', redis.call('GET', KEYS[1])}}
"""

_DELETE = f"""
{_COMMON}
if used and before > 0 then redis.call('DECRBY', KEYS[2], before) end
return redis.call('DEL', KEYS[1])
"""


class CountedValues:
    """Runtime values by their keys in Redis. Every method raises what Redis raises."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._set = Script(store, _SET)
        self._increment = Script(store, _INCREMENT)
        self._delete = Script(store, _DELETE)

    async def set(self, deployment: str, name: str, value: bytes, ttl: int | None) -> None:
        """Raises QuotaExceeded."""
        await self._write(self._set, deployment, name, value, "" if ttl is None else ttl)

    async def increment(self, deployment: str, name: str, amount: int, ttl: int | None) -> int:
        """The sum; `ttl` counts from when the value is made. Raises QuotaExceeded."""
        _, total = await self._write(self._increment, deployment, name, amount, "" if ttl is None else ttl)
        return int(total)

    async def delete(self, deployment: str, name: str) -> bool:
        """Whether it was there."""
        use = keys.runtime_use(deployment)
        return bool(await self._delete(keys=[name, use], args=[MAX_DEPLOYMENT_BYTES, OVERHEAD_BYTES]))

    async def delete_all(self, deployment: str) -> int:
        """How many there were."""
        deleted = 0
        async for found in self._scan(deployment):
            deleted += await self._store.unlink(*found)
        await self._store.delete(keys.runtime_use(deployment))
        return deleted

    async def _write(self, script: Script, deployment: str, name: str, *given: Any) -> list[bytes]:
        names = [name, keys.runtime_use(deployment)]
        args = [MAX_DEPLOYMENT_BYTES, OVERHEAD_BYTES, *given]
        answer: list[bytes] = await script(keys=names, args=args)
        if answer[0] == b"unknown" or (answer[0] == b"full" and await self._may_recount(deployment)):
            await self._recount(deployment)
            answer = await script(keys=names, args=args)
        if answer[0] != b"done":
            raise QuotaExceeded(
                f"all runtime values of {deployment} together would take more than {MAX_DEPLOYMENT_BYTES} "
                "bytes of Redis's memory; delete some, or give them a time to live"
            )
        return answer

    async def _may_recount(self, deployment: str) -> bool:
        return bool(await self._store.set(keys.runtime_recounted(deployment), 1, nx=True, ex=RECOUNT_SECONDS))

    async def _recount(self, deployment: str) -> None:
        use = keys.runtime_use(deployment)
        before = await self._store.get(use)
        total = 0
        async for found in self._scan(deployment):
            async with self._store.pipeline(transaction=False) as pipe:
                for name in found:
                    pipe.strlen(name)
                sizes = await pipe.execute()
            total += sum(
                size + len(name) + OVERHEAD_BYTES for name, size in zip(found, sizes, strict=True) if size
            )
        if before is None:
            # Nothing is written while the counter is missing; who else counted found the same.
            await self._store.set(use, total, nx=True)
        else:
            await self._store.incrby(use, total - int(before))  # what was written meanwhile stays counted

    async def _scan(self, deployment: str) -> Any:
        pattern, cursor = keys.runtime(deployment, "*"), 0
        while True:
            cursor, found = await self._store.scan(cursor, match=pattern, count=SCAN_COUNT)
            if found:
                yield found
            if cursor == 0:
                return
