"""What apps may use and have used: reserved before each attempt, settled after it, atomically in Redis.

Invariant: at any moment, what is counted and what is held together exceed no budget, however many processes
ask at once; so nothing can be spent that was not there, as long as an attempt uses no more than it held. What
a killed process held is let go when its time is over. Redis away means that nothing is granted.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from uhlp_core import keys
from uhlp_core.store import Script, Store
from uhlp_mcp.background import Background
from uhlp_mcp.llm.errors import OverBudget, TooBusy
from uhlp_mcp.llm.prices import dollars

KEPT_DAYS = 35
"""How long a day's counters are kept: a month can be added up a few days after its end."""

GRACE_SECONDS = 30.0
"""That a reservation outlives its attempt's time: for settling it while Redis or the machine is slow."""

SETTLED_SECONDS = 120
"""That a settled attempt is known as such: longer than the Redis client repeats what got no reply."""

_RESERVE = """
local ask = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000

local minute = math.floor(now / 60)
local past = redis.call('HMGET', KEYS[3], 'minute', 'attempts', 'tokens', 'attemptsBefore', 'tokensBefore')
local age = minute - tonumber(past[1] or 0)
local attempts, tokens = tonumber(past[2] or 0), tonumber(past[3] or 0)
local attempts_before, tokens_before = tonumber(past[4] or 0), tonumber(past[5] or 0)
if age == 1 then
  attempts_before, tokens_before, attempts, tokens = attempts, tokens, 0, 0
elseif age ~= 0 then
  attempts_before, tokens_before, attempts, tokens = 0, 0, 0, 0
end
local rest = 1 - (now / 60 - minute)
if (ask.attemptsPerMinute and attempts_before * rest + attempts + 1 > ask.attemptsPerMinute)
    or (ask.tokensPerMinute and tokens_before * rest + tokens + ask.tokens > ask.tokensPerMinute) then
  return {'busy', tostring(rest * 60)}
end

local held = {}
local entries = redis.call('HGETALL', KEYS[2])
for i = 1, #entries, 2 do
  local entry = cjson.decode(entries[i + 1])
  if entry.expires <= now then
    redis.call('HDEL', KEYS[2], entries[i])
  else
    for _, scope in ipairs(entry.scopes) do
      local sum = held[scope] or {tokens = 0, nanos = 0}
      held[scope] = {tokens = sum.tokens + entry.tokens, nanos = sum.nanos + entry.nanos}
    end
  end
end
for _, limit in ipairs(ask.limits) do
  local used = tonumber(redis.call('HGET', KEYS[1], limit.scope .. '|' .. limit.measure) or 0)
  local waiting = (held[limit.scope] or {})[limit.measure] or 0
  if used + waiting + ask[limit.measure] > limit.most then
    return {'over', limit.scope, limit.measure, tostring(limit.most), tostring(used + waiting)}
  end
end

redis.call('HSET', KEYS[3], 'minute', minute, 'attempts', attempts + 1, 'tokens', tokens + ask.tokens,
  'attemptsBefore', attempts_before, 'tokensBefore', tokens_before)
redis.call('EXPIRE', KEYS[3], 180)
redis.call('HSET', KEYS[2], ask.id, cjson.encode(
  {expires = now + ask.seconds, minute = minute, scopes = ask.scopes, tokens = ask.tokens,
   nanos = ask.nanos}))
redis.call('EXPIRE', KEYS[2], 86400)
return {'granted'}
"""

_SETTLE = """
local told = cjson.decode(ARGV[1])
if told.id then
  if not redis.call('SET', KEYS[4], 1, 'NX', 'EX', told.settledSeconds) then return 0 end
  local entry = redis.call('HGET', KEYS[2], told.id)
  if entry then
    redis.call('HDEL', KEYS[2], told.id)
    local age = tonumber(redis.call('HGET', KEYS[3], 'minute') or 0) - cjson.decode(entry).minute
    local field = age == 0 and 'tokens' or age == 1 and 'tokensBefore'
    if field and redis.call('HINCRBY', KEYS[3], field, told.tooMany) < 0 then
      redis.call('HSET', KEYS[3], field, 0)
    end
  end
end
for _, scope in ipairs(told.scopes) do
  for measure, amount in pairs(told.amounts) do
    redis.call('HINCRBY', KEYS[1], scope .. '|' .. measure, amount)
  end
end
redis.call('EXPIRE', KEYS[1], told.seconds)
return 1
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on what a scope may use in a day."""

    scope: str
    measure: str
    """`tokens` or `nanos`."""
    most: int


@dataclass(frozen=True, slots=True)
class Account:
    """Whose use is counted, and against which limits."""

    app: str
    scopes: tuple[str, ...]
    """`app|`, `component|<id>`, `user|<id>`, `model|<provider>/<model>`: counted each by itself."""
    limits: tuple[Limit, ...] = ()
    attempts_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What one attempt may use."""

    id: str
    account: Account
    day: str
    tokens: int
    nanos: int


class Ledger:
    """Reserves and counts."""

    def __init__(self, redis: Store) -> None:
        self._redis = redis
        self._reserve = Script(redis, _RESERVE)
        self._settle = Script(redis, _SETTLE)
        self._settling: dict[str, Background] = {}

    async def reserve(self, account: Account, tokens: int, nanos: int, seconds: float) -> Held:
        """Hold what an attempt of so many seconds may use at most.

        Raises OverBudget, TooBusy, and what Redis raises.
        """
        await self.finish(account.app)  # else what is settled just now would still count as held
        held = Held(secrets.token_hex(8), account, today(), tokens, nanos)
        answer = await self._reserve(
            keys=self._keys(account, held.day),
            args=[
                orjson.dumps(
                    {
                        "id": held.id,
                        "tokens": tokens,
                        "nanos": nanos,
                        "seconds": seconds + GRACE_SECONDS,
                        "scopes": account.scopes,
                        "limits": [
                            {"scope": limit.scope, "measure": limit.measure, "most": limit.most}
                            for limit in account.limits
                        ],
                        # A JSON null would count as true in the script.
                        **_given("attemptsPerMinute", account.attempts_per_minute),
                        **_given("tokensPerMinute", account.tokens_per_minute),
                    }
                )
            ],
        )
        match [part.decode() for part in answer]:
            case ["busy", wait]:
                raise TooBusy(
                    "the app's calls of this minute are used up (`requestsPerMinute`, `tokensPerMinute`)",
                    retry_after=float(wait),
                )
            case ["over", scope, measure, most, used]:
                raise OverBudget(
                    _over(scope, measure, float(most), float(used), held), retry_after=until_tomorrow()
                )
        return held

    def settle(self, held: Held, amounts: Mapping[str, int]) -> None:
        """Let go of what was held and count what was used: `tokens`, `nanos`, and what else is to be told.

        Done in the background: an answer that is paid for waits for nothing, and is not lost with Redis. What
        cannot be counted is let go by itself in the end; what is settled more than once counts once.
        """
        document = {
            "id": held.id,
            "tooMany": amounts.get("tokens", 0) - held.tokens,
            "settledSeconds": SETTLED_SECONDS,
        }
        self._start(held.account, held.day, amounts, document)

    def count(self, account: Account, amounts: Mapping[str, int]) -> None:
        """Count what needed no reservation, in the background too."""
        self._start(account, today(), amounts, {})

    async def finish(self, app: str) -> None:
        """Wait until everything that this process knows of an app is counted."""
        settling = self._settling.get(app)
        if settling is not None:
            await settling.finish()
            if settling.is_idle and self._settling.get(app) is settling:
                del self._settling[app]

    async def close(self) -> None:
        """Wait until everything is counted."""
        for app in list(self._settling):
            await self.finish(app)

    def _start(self, account: Account, day: str, amounts: Mapping[str, int], more: Mapping[str, Any]) -> None:
        settling = self._settling.setdefault(account.app, Background())
        settling.leave(self._count(account, day, amounts, more))

    async def _count(
        self, account: Account, day: str, amounts: Mapping[str, int], more: Mapping[str, Any]
    ) -> None:
        told = {
            **more,
            "scopes": account.scopes,
            # As text: the script's numbers would lose the last digits of large ones.
            "amounts": {measure: str(amount) for measure, amount in amounts.items() if amount},
            "seconds": KEPT_DAYS * 24 * 3600,
        }
        settled = [keys.llm_settled(account.app, told["id"])] if "id" in told else []
        await self._settle(keys=[*self._keys(account, day), *settled], args=[orjson.dumps(told)])

    def _keys(self, account: Account, day: str) -> Sequence[str]:
        return (
            keys.llm_usage(account.app, day),
            keys.llm_held(account.app),
            keys.llm_minute(account.app),
        )


def today() -> str:
    """The day that budgets count for now, in UTC."""
    return datetime.now(UTC).date().isoformat()


def until_tomorrow() -> float:
    """Seconds until budgets begin anew."""
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - now).total_seconds()


def _given(name: str, value: int | None) -> dict[str, int]:
    return {} if value is None else {name: value}


def _over(scope: str, measure: str, most: float, used: float, held: Held) -> str:
    kind, _, name = scope.partition("|")
    whose = f"the {kind} {name!r}" if name else "the app" if kind == "app" else "clients that call the tool"
    if measure == "tokens":
        state = f"{used:.0f} of {most:.0f} tokens are used or held, and this attempt may need {held.tokens}"
    else:
        needed = dollars(held.nanos)
        state = (
            f"{dollars(int(used)):.6f} of {dollars(int(most)):.6f} USD are used or held, "
            f"and this attempt may need {needed:.6f}"
        )
    return (
        f"the day's budget of {whose} does not cover the call: {state}; "
        "ask for less (`max_tokens`), raise `llm.budgets`, or wait for the next day (UTC)"
    )
