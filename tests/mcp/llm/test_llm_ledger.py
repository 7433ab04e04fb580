"""Budgets hold: against races of processes, against killed ones, whatever is asked in whatever order."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.fake_llm import FakeLlm, Say
from support.llm_desk import Desk, openai
from support.private_redis import PrivateRedis
from support.waiting import eventually
from uhlp_core import keys
from uhlp_core.store import UNAVAILABLE
from uhlp_mcp.llm import ledger as ledger_module
from uhlp_mcp.llm.errors import BadRequest, NotConfigured, OverBudget, TooBusy
from uhlp_mcp.llm.ledger import Account, Held, Ledger, Limit
from uhlp_mcp.llm.plan import make_plan
from uhlp_mcp.llm.prices import cost
from uhlp_mcp.tools import Caller
from uhlp_state.model import LlmProvider
from uhlp_state.model.llm import LlmConfig

LIMIT = 1000
SPENDER = Path(__file__).parents[2] / "support" / "budget_spender.py"


def account(*limits: Limit, **more: Any) -> Account:
    return Account("alpha", ("app|", "component|c"), limits, **more)


async def test_racing_processes_never_exceed_a_budget(desk: Desk, llm_redis: PrivateRedis) -> None:
    numbers = [str(number) for number in (LIMIT, 40, 30)]
    command = [sys.executable, str(SPENDER), llm_redis.url, *numbers]
    racing = [await asyncio.create_subprocess_exec(*command, stdout=PIPE) for _ in range(3)]
    spent = [int((await process.communicate())[0]) for process in racing]
    counted = (await desk.counted())["tokens"]
    assert sum(spent) == counted
    # A process stops when what the others hold leaves it no room, so a little may be left.
    assert LIMIT - 3 * 40 < counted <= LIMIT


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.integers(0, 400), st.integers(0, 400), st.integers(0, 10)), max_size=25
    )
)
async def test_used_and_held_never_exceed_the_limit(
    desk: Desk, steps: list[tuple[bool, int, int, int]]
) -> None:
    await desk.redis.flushall()
    ledger = Ledger(desk.redis)
    limits = (Limit("app|", "tokens", LIMIT), Limit("component|c", "nanos", LIMIT))
    held: list[Held] = []
    used = {"tokens": 0, "nanos": 0}
    for take, tokens, nanos, which in steps:
        if take:
            fits = (
                used["tokens"] + sum(one.tokens for one in held) + tokens <= LIMIT
                and used["nanos"] + sum(one.nanos for one in held) + nanos <= LIMIT
            )
            try:
                held.append(await ledger.reserve(account(*limits), tokens, nanos, 60))
                assert fits
            except OverBudget:
                assert not fits
        elif held:
            one = held.pop(which % len(held))
            spent = {"tokens": min(tokens, one.tokens), "nanos": min(nanos, one.nanos)}
            ledger.settle(one, spent)
            used = {measure: used[measure] + spent[measure] for measure in used}
        await ledger.close()
        counted = await desk.counted()
        assert {measure: counted.get(measure, 0) for measure in used} == used


async def test_calls_that_ask_at_once_all_know_what_was_settled_before(desk: Desk) -> None:
    ledger, limited = Ledger(desk.redis), account(Limit("app|", "tokens", LIMIT))
    for _ in range(10):
        await desk.redis.flushall()
        for held in await asyncio.gather(*(ledger.reserve(limited, LIMIT // 2, 0, 60) for _ in range(2))):
            ledger.settle(held, {"tokens": 1})
        await asyncio.gather(*(ledger.reserve(limited, LIMIT // 2 - 1, 0, 60) for _ in range(2)))
    await ledger.close()


async def test_what_is_settled_is_waited_for_though_who_waited_before_gave_up(desk: Desk) -> None:
    ledger = Ledger(desk.redis)
    ledger.settle(await ledger.reserve(account(), 1, 0, 60), {"tokens": 1})
    await desk.redis.client_pause(300, all=False)
    gives_up = asyncio.create_task(ledger.reserve(account(), 1, 0, 60))
    await asyncio.sleep(0)
    gives_up.cancel()
    await ledger.close()
    assert await desk.redis.hget(keys.llm_usage("alpha", ledger_module.today()), "app||tokens") == b"1"


async def test_what_a_killed_process_held_is_let_go(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "GRACE_SECONDS", 0.0)
    ledger, limited = Ledger(desk.redis), account(Limit("app|", "tokens", LIMIT))
    await ledger.reserve(limited, LIMIT, 0, 1.0)
    with pytest.raises(OverBudget):
        await ledger.reserve(limited, 1, 0, 60)

    async def granted() -> bool:
        try:
            await ledger.reserve(limited, 1, 0, 60)
        except OverBudget:
            return False
        return True

    await eventually(granted, "the reservation expires")
    assert await desk.redis.hlen(keys.llm_held("alpha")) == 1


async def test_large_sums_lose_nothing(desk: Desk) -> None:
    ledger = Ledger(desk.redis)
    for _ in range(3):
        held = await ledger.reserve(account(), 0, 0, 60)
        ledger.settle(held, {"nanos": 10**16 + 1})
    await ledger.close()
    assert (await desk.counted())["nanos"] == 3 * 10**16 + 3


async def test_attempts_and_tokens_of_a_minute(desk: Desk) -> None:
    ledger = Ledger(desk.redis)
    few = account(attempts_per_minute=2)
    held = await ledger.reserve(few, 10, 0, 60)
    await ledger.reserve(few, 10, 0, 60)
    with pytest.raises(TooBusy) as caught:
        await ledger.reserve(few, 10, 0, 60)
    assert 0 < (caught.value.retry_after or 0) <= 60
    little = account(tokens_per_minute=25)
    with pytest.raises(TooBusy):
        await ledger.reserve(little, 10, 0, 60)
    ledger.settle(held, {"tokens": 4})
    await ledger.reserve(little, 10, 0, 60)


@pytest.mark.parametrize(("age", "tokens", "before"), [(0, 14, 500), (1, 50, 464), (2, 50, 500)])
async def test_unused_tokens_are_given_back_to_their_own_minute(
    desk: Desk, age: int, tokens: int, before: int
) -> None:
    ledger = Ledger(desk.redis)
    held = await ledger.reserve(account(), 40, 0, 60)
    minute = keys.llm_minute("alpha")
    now = int(await desk.redis.hget(minute, "minute")) + age
    await desk.redis.hset(minute, mapping={"minute": now, "tokens": 50, "tokensBefore": 500})
    ledger.settle(held, {"tokens": 4})
    await ledger.close()
    assert [int(count) for count in await desk.redis.hmget(minute, "tokens", "tokensBefore")] == [
        tokens,
        before,
    ]


@pytest.mark.parametrize("swept", [False, True])
async def test_what_is_settled_again_counts_once(desk: Desk, swept: bool) -> None:
    ledger = Ledger(desk.redis)
    held = await ledger.reserve(account(), 40, 0, 60)
    other = await ledger.reserve(account(), 40, 0, 60)
    if swept:
        await desk.redis.hdel(keys.llm_held("alpha"), held.id)
    for _ in range(2):
        ledger.settle(held, {"tokens": 4, "calls": 1})
        await ledger.close()
    assert await desk.counted() == {"calls": 1, "tokens": 4}
    ledger.settle(other, {"tokens": 5, "calls": 1})
    await ledger.close()
    assert await desk.counted() == {"calls": 2, "tokens": 9}
    assert 0 < await desk.redis.ttl(keys.llm_settled("alpha", held.id)) <= ledger_module.SETTLED_SECONDS


@pytest.mark.parametrize("per", ["app", "component", "user"])
async def test_budgets_of_apps_components_and_users(desk: Desk, fake: FakeLlm, per: str) -> None:
    fake.otherwise = Say(usage=(100, 100))
    budget = {"per": per, "tokens": 250}
    await desk.configure(openai(fake.openai, budgets=[budget]))
    mine = Caller("alpha", "alpha", component="c", user="u")
    await desk.ask(mine)
    with pytest.raises(OverBudget, match=rf"the day's budget of the {per}.*200 of 250 tokens") as caught:
        await desk.ask(mine)
    assert 0 < (caught.value.retry_after or 0) <= 24 * 3600
    others = Caller("alpha", "alpha", component="d", user="v")
    if per == "app":
        with pytest.raises(OverBudget):
            await desk.ask(others)
    else:
        await desk.ask(others)
    assert len(fake.seen) == (1 if per == "app" else 2)


@pytest.mark.parametrize("per", ["component", "user"])
async def test_leaving_the_token_out_frees_from_no_budget(desk: Desk, fake: FakeLlm, per: str) -> None:
    hidden = Caller.of("alpha", "a0")
    await desk.configure(openai(fake.openai, budgets=[{"per": per, "tokens": 250}]))
    with pytest.raises(BadRequest, match=f"this app has a budget per {per}, and nothing says"):
        await desk.ask(hidden)
    assert (fake.seen, await desk.counted()) == ([], {})
    await desk.configure(openai(fake.openai, budgets=[{"tokens": 250}]))
    await desk.ask(hidden)


async def test_clients_from_outside_share_one_budget_per_component(desk: Desk, fake: FakeLlm) -> None:
    fake.otherwise = Say(usage=(100, 100))
    await desk.configure(openai(fake.openai, budgets=[{"per": "component", "tokens": 250}]))
    await desk.ask(Caller("alpha", "alpha", user="ada"))
    with pytest.raises(OverBudget, match="budget of clients that call the tool does not cover"):
        await desk.ask(Caller("alpha", "alpha", user="bob"))


async def test_whom_nobody_knows_shares_no_user_s_budget(desk: Desk, fake: FakeLlm) -> None:
    fake.otherwise = Say(usage=(100, 100))
    await desk.configure(openai(fake.openai, budgets=[{"per": "user", "tokens": 250}, {"tokens": 650}]))
    stranger = Caller("alpha", "alpha", "a0", component="c")
    for _ in range(2):
        await desk.ask(stranger)
    await desk.ask(replace(stranger, user="ada"))
    assert await desk.counted("user|") == {}
    with pytest.raises(OverBudget, match="the day's budget of the app"):
        await desk.ask(stranger)


async def test_a_preview_spends_the_app_s_budget(desk: Desk, fake: FakeLlm) -> None:
    fake.otherwise = Say(usage=(100, 100))
    config = openai(fake.openai, budgets=[{"tokens": 250}])
    for deployment in ("alpha", "alpha@next"):
        await desk.configure(config, deployment)
    await desk.ask(Caller("alpha", "alpha@next"))
    with pytest.raises(OverBudget):
        await desk.ask()


@pytest.mark.parametrize(
    "own", [{}, {"budgets": [{"tokens": 10_000}, {"usd": 9.0}], "requestsPerMinute": 99}]
)
@pytest.mark.parametrize(
    ("production", "error"),
    [
        ({"budgets": [{"tokens": 250}]}, OverBudget),
        ({"budgets": [{"per": "user", "tokens": 250}]}, OverBudget),
        ({"budgets": [{"usd": 0.5}]}, OverBudget),
        ({"requestsPerMinute": 1}, TooBusy),
        ({"tokensPerMinute": 250}, TooBusy),
    ],
)
async def test_no_preview_gives_itself_leave_to_spend_more(
    desk: Desk, fake: FakeLlm, own: dict[str, Any], production: dict[str, Any], error: type[Exception]
) -> None:
    fake.otherwise = Say(usage=(100, 100))
    free = {"prices": {"m": {"inputPerMillion": 0.0, "outputPerMillion": 0.0}}}
    preview = openai(fake.openai, provider=free, **own)
    preview["providers"] = {"renamed": preview["providers"]["p"]}
    await desk.configure({**preview, "model": "renamed/m"}, "alpha@next")
    await desk.configure(openai(fake.openai, **production))
    caller = Caller("alpha", "alpha@next", user="u")
    await desk.ask(caller)
    with pytest.raises(error):
        await desk.ask(caller)
    assert len(fake.seen) == 1


def test_a_preview_s_prices_are_not_below_the_price_list() -> None:
    def config(**more: Any) -> LlmConfig:
        return LlmConfig.model_validate(
            {"providers": {"p": {"type": "openai", **more}}, "model": "p/gpt-4o-mini"}
        )

    # Only the list knows what it costs: production has no price of its own.
    production, asked = config(), {"prompt": "hi"}
    preview = config(prices={"gpt-4o-mini": {"inputPerMillion": 0.0, "outputPerMillion": 0.0}})
    listed = make_plan(production, asked).candidates[0].cost(1000, 1000)
    assert listed
    assert make_plan(preview, asked).candidates[0].cost(1000, 1000) == 0
    assert make_plan(preview, asked, production).candidates[0].cost(1000, 1000) == listed


async def test_a_preview_s_own_limits_hold_for_it_as_well(desk: Desk, fake: FakeLlm) -> None:
    fake.otherwise = Say(usage=(100, 100))
    preview = Caller("alpha", "alpha@next")
    await desk.configure(openai(fake.openai, budgets=[{"tokens": 250}]), preview.deployment)
    await desk.ask(preview)  # There is no production yet.
    for production in (openai(fake.openai), openai(fake.openai, budgets=[{"tokens": 9999}]), None):
        await desk.configure(production)
        with pytest.raises(OverBudget):
            await desk.ask(preview)
    await desk.configure(openai(fake.openai))
    assert (await desk.ask())["attempts"] == 1


async def test_a_budget_in_money_reserves_the_most_that_a_call_can_cost(desk: Desk, fake: FakeLlm) -> None:
    # 2 USD for 1000 tokens of output: 100 tokens may cost 0.2, and the question 0.018 at most.
    await desk.configure(openai(fake.openai, budgets=[{"usd": 0.23}]))
    assert (await desk.ask())["costUsd"] == 0.02
    with pytest.raises(OverBudget, match=r"0\.020000 of 0\.230000 USD.*may need 0\.218000"):
        await desk.ask()
    assert (await desk.ask(parameters={"max_tokens": 5}))["costUsd"] == 0.02


async def test_a_budget_in_money_refuses_what_has_no_price(desk: Desk, fake: FakeLlm) -> None:
    await desk.configure(openai(fake.openai, budgets=[{"usd": 5.0}]))
    with pytest.raises(NotConfigured, match=r"price of p/other is unknown.*llm\.providers\.p\.prices"):
        await desk.ask(model="p/other")
    assert fake.seen == []


def test_the_price_list_knows_public_models() -> None:
    openai_itself = LlmProvider.model_validate({"type": "openai"})
    assert (cost(openai_itself, "gpt-4o-mini", 1_000_000, 0) or 0) > 0
    assert cost(openai_itself, "no-such-model", 1, 1) is None
    assert (
        cost(LlmProvider.model_validate({"type": "openai", "baseUrl": "https://x.example"}), "gpt-4o", 1, 1)
        is None
    )


async def test_nothing_is_granted_that_redis_cannot_keep(desk: Desk, fake: FakeLlm) -> None:
    await desk.configure(openai(fake.openai))
    await desk.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(UNAVAILABLE):
            await desk.ask()
    finally:
        await desk.redis.config_set("maxmemory", 0)
    assert fake.seen == []
