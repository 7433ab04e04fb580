"""Cache, concurrency, metrics, and apps that try to hold the platform up."""

import asyncio
from typing import Any

import pytest
from prometheus_client import REGISTRY

from support.check_limits import limit_jobs
from support.fake_llm import FakeLlm, Say
from support.llm_desk import Desk, openai
from support.waiting import eventually
from uhlp_core import keys
from uhlp_mcp import turns
from uhlp_mcp.checker import Checker
from uhlp_mcp.llm import accounting, cache
from uhlp_mcp.llm.errors import BadRequest, InvalidOutput, TooBusy
from uhlp_mcp.llm.ledger import today
from uhlp_mcp.tools import Caller
from uhlp_state.json_schema.check_pool import JobFailed

ENDLESS = {"pattern": r"(a+)+$", "text": "a" * 64 + "!"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that get a second."""
    limit_jobs(monkeypatch, 1.0)


# -- the cache -------------------------------------------------------------------------------------------


async def test_the_same_question_costs_once(desk: Desk, fake: FakeLlm) -> None:
    await desk.configure(openai(fake.openai))
    first = await desk.ask(cacheSeconds=60)
    told: list[str] = []

    async def emit(text: str, *, scripted: bool = False) -> None:
        told.append(text)

    again = await desk.ask(None, emit, cacheSeconds=60)
    nothing = {"inputTokens": 0, "outputTokens": 0}
    assert again == {**first, "usage": nothing, "costUsd": 0.0, "attempts": 0, "cached": True}
    assert (len(fake.seen), told) == (1, ["hello"])
    counted = await desk.counted()
    assert (counted["calls"], counted["cached"], counted["tokens"]) == (2, 1, 15)


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "another"},
        {"system": "x"},
        {"parameters": {"temperature": 1}},
        {"model": "p/n"},
        {"outputFormat": "yaml"},
        {"promptName": "x"},
    ],
)
async def test_another_question_is_asked(desk: Desk, fake: FakeLlm, other: dict[str, Any]) -> None:
    await desk.configure(openai(fake.openai, cacheSeconds=60.0))
    await desk.ask()
    assert (await desk.ask(**other))["cached"] is False


async def test_nobody_gets_another_s_answer(desk: Desk, fake: FakeLlm) -> None:
    config = openai(fake.openai, cacheSeconds=60.0)
    desk.secrets["beta", "secret:key"] = "sk-beta"
    for deployment in ("alpha", "alpha@next", "beta"):
        await desk.configure(config, deployment)
        app = deployment.partition("@")[0]
        assert (await desk.ask(Caller(app, deployment)))["cached"] is False
    await desk.configure(openai(fake.openai, cacheSeconds=60.0, provider={"timeoutSeconds": 7.0}))
    assert (await desk.ask())["cached"] is False


async def test_only_whole_answers_of_the_model_itself_are_kept(desk: Desk, fake: FakeLlm) -> None:
    fake.say(Say("cut", finish="length"), Say(status=500))
    await desk.configure(openai(fake.openai, cacheSeconds=60.0, fallbacks=["p/other"]))
    assert (await desk.ask())["finishReason"] == "length"
    assert (await desk.ask())["model"] == "other"
    assert (await desk.ask())["cached"] is False
    assert (await desk.ask())["cached"] is True


async def test_the_cache_is_bounded_and_ends(
    desk: Desk, fake: FakeLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MAX_ENTRIES", 2)
    await desk.configure(openai(fake.openai, cacheSeconds=60.0))
    for prompt in ("a", "b", "c"):
        await desk.ask(prompt=prompt)
    kept = await desk.redis.keys("uhlp:llm:cache:*")
    assert len(kept) == 2
    assert all([0 < await desk.redis.ttl(key) <= 60 for key in kept])


async def test_an_answer_that_cannot_be_kept_is_not_lost(desk: Desk, fake: FakeLlm) -> None:
    fake.otherwise = Say(hang=True)
    await desk.configure(openai(fake.openai, cacheSeconds=60.0))
    call = asyncio.create_task(desk.ask())
    await eventually(lambda: fake.under_way, "the call is under way")
    await desk.redis.config_set("maxmemory", 1)
    try:
        fake.release()
        assert (await call)["completion"] == "hello"
        await desk.tools.flush()
    finally:
        await desk.redis.config_set("maxmemory", 0)
    assert await desk.redis.keys("uhlp:llm:cache:*") == []


# -- concurrency -----------------------------------------------------------------------------------------


async def test_calls_beyond_the_limit_wait_and_too_many_are_refused(
    desk: Desk, fake: FakeLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_WAITING", 2)
    fake.otherwise = Say(hang=True)
    await desk.configure(openai(fake.openai, maxConcurrency=2))
    calls = [asyncio.create_task(desk.ask()) for _ in range(5)]
    await eventually(lambda: fake.under_way == 2 and any(call.done() for call in calls), "all are in place")
    fake.release()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    (refused,) = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert isinstance(refused, TooBusy)
    assert str(refused) == "2 calls of the app are waiting already (`llm.maxConcurrency`)"
    assert fake.most_under_way == 2


async def test_a_preview_has_no_more_calls_at_a_time_than_production(desk: Desk, fake: FakeLlm) -> None:
    fake.otherwise = Say(hang=True)
    await desk.configure(openai(fake.openai, maxConcurrency=1))
    await desk.configure(openai(fake.openai, maxConcurrency=5), "alpha@next")
    preview = Caller("alpha", "alpha@next")
    calls = [asyncio.create_task(desk.ask(preview)) for _ in range(3)]
    await eventually(lambda: fake.under_way, "one is under way")
    fake.release()
    await asyncio.gather(*calls)
    assert fake.most_under_way == 1


async def test_a_call_does_not_wait_for_ever(desk: Desk, fake: FakeLlm) -> None:
    fake.otherwise = Say(hang=True)
    await desk.configure(openai(fake.openai, maxConcurrency=1))
    first = asyncio.create_task(desk.ask())
    await eventually(lambda: fake.under_way, "the first call is under way")
    await desk.configure(openai(fake.openai, maxConcurrency=1, timeoutSeconds=0.05))
    with pytest.raises(TooBusy, match="all calls that the app may make at a time"):
        await desk.ask()
    fake.release()
    assert (await first)["completion"] == "hello"


# -- hostile apps ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
async def test_an_endless_pattern_ends_and_holds_nobody_up() -> None:
    pool = Checker()
    endless = asyncio.create_task(pool.run("evil", "find_groups", **ENDLESS))
    more = asyncio.create_task(pool.run("evil", "find_groups", **ENDLESS))
    assert await pool.run("good", "find_groups", pattern="a", text="a") == {"0": "a"}
    for job in (endless, more):
        with pytest.raises(JobFailed):
            await job
    assert await pool.run("evil", "find_groups", pattern="b", text="a") is None
    await pool.close()


@pytest.mark.usefixtures("quick")
async def test_an_endless_schema_is_an_invalid_output(desk: Desk) -> None:
    await desk.script({"replies": [{"json": ENDLESS["text"]}]})
    with pytest.raises(InvalidOutput, match="cannot be checked"):
        await desk.ask(outputSchema={"pattern": ENDLESS["pattern"]})


@pytest.mark.usefixtures("quick")
async def test_an_endless_rule_is_told(desk: Desk) -> None:
    await desk.script({"match": {"regex": ENDLESS["pattern"]}, "replies": [{"text": "x"}]})
    with pytest.raises(BadRequest, match="took too long"):
        await desk.ask(prompt=ENDLESS["text"])


async def test_cancelling_a_check_leaves_no_answer_for_the_next() -> None:
    pool = Checker()
    await pool.run("a", "find_groups", pattern="a", text="a")
    job = asyncio.create_task(pool.run("a", "find_groups", **ENDLESS))
    await eventually(lambda: not pool._idle, "the job began")
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert await pool.run("a", "find_groups", pattern="b", text="b") == {"0": "b"}
    await pool.close()


# -- metrics ---------------------------------------------------------------------------------------------


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_attempts_are_in_the_metrics_by_their_conventional_names(desk: Desk, fake: FakeLlm) -> None:
    labels = {
        "app": "alpha",
        "gen_ai_provider_name": "p",
        "gen_ai_request_model": "m",
        "uhlp_provider_type": "openai",
    }
    failed = {**labels, "error_type": "LLM_UNAVAILABLE"}
    name = "gen_ai_client_inference"
    before = [
        value(f"{name}_usage_input_tokens_total", **labels),
        value(f"{name}_usage_output_tokens_total", **labels),
        value(f"{name}_duration_seconds_count", **failed),
        value("uhlp_llm_cost_usd_total", **labels),
    ]
    fake.say(Say(status=500), Say())
    await desk.configure(openai(fake.openai, retries={"max": 1, "maxWaitSeconds": 0.0}))
    await desk.ask()
    await desk.tools.flush()
    after = [
        value(f"{name}_usage_input_tokens_total", **labels),
        value(f"{name}_usage_output_tokens_total", **labels),
        value(f"{name}_duration_seconds_count", **failed),
        value("uhlp_llm_cost_usd_total", **labels),
    ]
    assert [round(b - a, 6) for a, b in zip(before, after, strict=True)] == [10, 5, 1, 0.02]


async def test_no_app_makes_endless_labels(
    desk: Desk, fake: FakeLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "MAX_MODELS", 3)
    monkeypatch.setattr(accounting, "_models", {})
    await desk.configure(openai(fake.openai))
    for number in range(6):
        await desk.ask(model=f"p/model-{number}")
    scopes = {
        field.decode().rpartition("|")[0]
        for field in await desk.redis.hgetall(keys.llm_usage("alpha", today()))
    }
    assert {scope for scope in scopes if scope.startswith("model|")} == {
        *(f"model|p/model-{number}" for number in range(3)),
        "model|p/other",
    }
