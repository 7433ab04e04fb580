"""Answers given before, by the exact question. Each deployment has its own; nothing is ever shared.

Invariant: an answer is only found by the same provider definition, model, messages, parameters and form of
output that it was given to. Only whole, valid answers of the model asked first are kept.
"""

import hashlib
from dataclasses import asdict
from typing import Any

import orjson

from uhlp_core import keys
from uhlp_core.store import Script, Store
from uhlp_mcp.llm.provider import Request

MAX_ENTRIES = 1000
"""Answers kept of one deployment; the oldest go first."""

MAX_ENTRY_BYTES = 256 * 1024
"""Larger answers are not kept, so that a deployment's cache stays below 256 MB at the very worst."""

_PUT = """
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], KEYS[1])
local excess = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[3])
if excess > 0 then
  for _, old in ipairs(redis.call('ZPOPMIN', KEYS[2], excess)) do redis.call('DEL', old) end
end
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
"""


class ResponseCache:
    """Reads and keeps answers."""

    def __init__(self, redis: Store) -> None:
        self._redis = redis
        self._put = Script(redis, _PUT)

    async def get(self, deployment: str, question: str) -> dict[str, Any] | None:
        """The answer kept for a question, or None."""
        raw: bytes | None = await self._redis.get(keys.llm_cache(deployment, question))
        return None if raw is None else orjson.loads(raw)

    async def put(
        self, deployment: str, question: str, answer: dict[str, Any], seconds: float, longest: float
    ) -> None:
        """Keep an answer for some seconds, of at most `longest` that any answer is kept."""
        raw = orjson.dumps(answer)
        if len(raw) > MAX_ENTRY_BYTES:
            return
        await self._put(
            keys=[keys.llm_cache(deployment, question), keys.llm_cached(deployment)],
            args=[raw, max(1, int(seconds)), MAX_ENTRIES, int(longest)],
        )


def question(provider: object, request: Request, form: str, schema: object) -> str:
    """The name of a question; `provider` is all that defines who answers, as plain JSON."""
    asked = {"provider": provider, "request": asdict(request), "form": form, "schema": schema}
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
