"""Writes runtime values, and keeps those of one deployment within bounds: all apps share one Redis.

What they take is kept in a hash per deployment, which is changed together with the values:

- `bytes`: at least what they take. Values that expire tell nobody, so it may be too high; where that would
  refuse a write, the values are counted anew, not more often than once a minute.
- `freed`: all that was ever freed, for a count that goes on while values are written and deleted.
- `count`: names the count that `bytes` began with.
"""

from __future__ import annotations

import asyncio
import secrets
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
local used = redis.call('HGET', KEYS[2], 'bytes')
local function size()
  local bytes = redis.call('STRLEN', KEYS[1])
  return bytes == 0 and 0 or bytes + #KEYS[1] + tonumber(ARGV[2])
end
local function grown(by)
  redis.call('HINCRBY', KEYS[2], 'bytes', by)
  if by < 0 then redis.call('HINCRBY', KEYS[2], 'freed', -by) end
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
grown(grows)
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
grown(size() - before)
return {{'done', redis.call('GET', KEYS[1])}}
"""

_DELETE = f"""
{_COMMON}
if used and before > 0 then grown(-before) end
return redis.call('DEL', KEYS[1])
"""

# While there is no count nothing is written, so whoever counted first is right.
_BEGIN = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'count', ARGV[1], 'bytes', ARGV[2], 'freed', 0)
end
"""

# What was freed while it was counted may be missing in the total, and what was written may be in it: both
# are added, so that the bytes are never too low.
_CORRECT = """
local count, bytes, freed = unpack(redis.call('HMGET', KEYS[1], 'count', 'bytes', 'freed'))
if count == ARGV[1] then
  bytes = ARGV[3] + (bytes - ARGV[4]) + (freed - ARGV[5])
  redis.call('HSET', KEYS[1], 'count', ARGV[2], 'bytes', bytes)
end
"""


class CountedValues:
    """Runtime values by their keys in Redis. Every method raises what Redis raises."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._set = Script(store, _SET)
        self._increment = Script(store, _INCREMENT)
        self._delete = Script(store, _DELETE)
        self._begin = Script(store, _BEGIN)
        self._correct = Script(store, _CORRECT)
        self._counting: dict[str, asyncio.Future[None]] = {}

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
        answer: list[bytes]
        while (answer := await script(keys=names, args=args))[0] != b"done":
            if answer[0] == b"full" and not await self._may_recount(deployment):
                raise QuotaExceeded(
                    f"all runtime values of {deployment} together would take more than "
                    f"{MAX_DEPLOYMENT_BYTES} bytes of Redis's memory; delete some, or give them a time to "
                    "live"
                )
            await self._recount(deployment)
        return answer

    async def _may_recount(self, deployment: str) -> bool:
        recounted = keys.runtime_recounted(deployment)
        return bool(await self._store.set(recounted, 1, nx=True, ex=RECOUNT_SECONDS))

    async def _recount(self, deployment: str) -> None:
        """Count, once for all who wait for it."""
        counting = self._counting.get(deployment)
        if counting is None:
            counting = self._counting[deployment] = asyncio.ensure_future(self._count(deployment))
            counting.add_done_callback(lambda ended: self._counted(deployment, ended))
        await asyncio.wait((counting,))
        counting.result()

    def _counted(self, deployment: str, counting: asyncio.Future[None]) -> None:
        del self._counting[deployment]
        if not counting.cancelled():
            counting.exception()  # looked at, for perhaps nobody waits any more

    async def _count(self, deployment: str) -> None:
        use, count = keys.runtime_use(deployment), secrets.token_hex(8)
        before: list[bytes | None] = await self._store.hmget(use, "count", "bytes", "freed")
        total = 0
        async for found in self._scan(deployment):
            async with self._store.pipeline(transaction=False) as pipe:
                for name in found:
                    pipe.strlen(name)
                sizes = await pipe.execute()
            total += sum(
                size + len(name) + OVERHEAD_BYTES for name, size in zip(found, sizes, strict=True) if size
            )
        if before[0] is None:
            await self._begin(keys=[use], args=[count, total])
        else:
            await self._correct(keys=[use], args=[before[0], count, total, *before[1:]])

    async def _scan(self, deployment: str) -> Any:
        pattern, cursor = keys.runtime(deployment, "*"), 0
        while True:
            cursor, found = await self._store.scan(cursor, match=pattern, count=SCAN_COUNT)
            if found:
                yield found
            if cursor == 0:
                return
