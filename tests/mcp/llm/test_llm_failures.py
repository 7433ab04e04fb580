"""Every way in which a provider fails becomes one typed error, counted, and without a word of the secret."""

import asyncio
import gc
import logging
import re
import threading
import traceback
from dataclasses import replace
from typing import Any

import pytest

from support.fake_llm import FakeLlm, Say
from support.llm_desk import KEY, Desk, anthropic, at, failing, openai
from uhlp_core.errors import UhlpError
from uhlp_core.secrets import SecretMissing
from uhlp_mcp.llm import gathering, providers, wire

BOTH = pytest.mark.parametrize("kind", [openai, anthropic])
MOST = {"attempts": 1, "calls": 1, "failures": 1}


@BOTH
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (Say(status=429, headers={"Retry-After": "7"}), "LLM_RATE_LIMITED", "limits its calls"),
        (Say(status=500), "LLM_UNAVAILABLE", "HTTP 500"),
        (Say(status=401), "LLM_NOT_CONFIGURED", "refuses the credential"),
        (Say(status=400, error={"message": "too long"}), "LLM_BAD_REQUEST", "HTTP 400.*: too long"),
        (Say(status=400, error={"code": "content_filter"}), "LLM_REFUSED", "refuses the request"),
        (Say(status=302, headers={"Location": "http://127.0.0.1:1/"}), "LLM_UNAVAILABLE", "HTTP 302"),
        (Say("some text", cut=True), "LLM_UNAVAILABLE", "broke off|cannot be read"),
        (Say(hang=True), "LLM_TIMEOUT", "within 0.2 s"),
        (Say(raw=b'{"choices": 5'), "LLM_UNAVAILABLE", "cannot be read|broke off"),
        (Say(raw=b'{"choices": [], "content": 7}'), "LLM_UNAVAILABLE", "cannot be read|broke off"),
        (Say(raw=b"[1]"), "LLM_UNAVAILABLE", "cannot be read|broke off"),
        (Say(raw=b"x", headers={"Content-Encoding": "gzip"}), "LLM_UNAVAILABLE", "compressed"),
    ],
)
async def test_faults_have_codes(
    desk: Desk, fake: FakeLlm, kind: Any, stream: bool, answer: Say, code: str, text: str
) -> None:
    async def emit(_: str, *, scripted: bool = False) -> None:
        pass

    fake.otherwise = answer
    await desk.configure(at(kind, fake, provider={"timeoutSeconds": 0.2 if answer.hang else 20.0}))
    error = await failing(desk, emit if stream else None)
    assert error.code == code
    assert re.search(text, str(error)), str(error)
    assert error.retry_after == (7.0 if answer.status == 429 else None)
    counted = await desk.counted()
    assert {name: counted[name] for name in MOST} == MOST
    # Nobody knows what an attempt cost that broke off, so it counts as the most that it can have been.
    assert ("tokens" in counted) is error.billed
    assert await desk.redis.hlen("uhlp:llm:held:alpha") == 0


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (openai, Say(refusal="I will not")),
        (openai, Say(finish="content_filter")),
        (anthropic, Say(finish="refusal")),
    ],
)
async def test_a_model_that_refuses(desk: Desk, fake: FakeLlm, kind: Any, answer: Say) -> None:
    fake.otherwise = answer
    await desk.configure(at(kind, fake, fallbacks=["p/other"]))
    assert (await failing(desk)).code == "LLM_REFUSED"
    assert len(fake.seen) == 1  # nobody goes shopping for a model that answers


async def test_a_response_without_end_is_cut_off(
    desk: Desk, fake: FakeLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "ANSWER", replace(wire.ANSWER, max_bytes=1000))
    fake.otherwise = Say("x" * 5000)
    await desk.configure(openai(fake.openai))
    error = await failing(desk)
    assert "larger than 1000 bytes" in str(error)


@BOTH
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_end_is_cut_off(
    desk: Desk, fake: FakeLlm, kind: Any, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def emit(_: str, *, scripted: bool = False) -> None:
        pass

    monkeypatch.setattr(gathering, "MAX_COMPLETION_BYTES", 1000)
    fake.otherwise = Say("x" * 1001)
    await desk.configure(at(kind, fake))
    error = await failing(desk, emit if stream else None)
    assert (error.code, error.billed) == ("LLM_UNAVAILABLE", True)
    assert "larger than 1000 bytes" in str(error)


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        (
            "overloaded_error",
            "LLM_UNAVAILABLE",
            "the provider broke the answer off, as it is overloaded: … no",
        ),
        (
            "rate_limit_error",
            "LLM_RATE_LIMITED",
            "the provider broke the answer off, as it limits its calls: … no",
        ),
        ("api_error", "LLM_UNAVAILABLE", "the provider broke the answer off: … no"),
    ],
)
async def test_an_error_in_the_midst_of_a_stream_is_billed(
    desk: Desk, fake: FakeLlm, kind: str, code: str, text: str
) -> None:
    told: list[str] = []

    async def emit(piece: str, *, scripted: bool = False) -> None:
        told.append(piece)

    fake.otherwise = Say("some text", error={"type": kind, "message": f"{KEY} no"})
    await desk.configure(anthropic(fake.url))
    error = await failing(desk, emit)
    assert (error.code, str(error), error.billed, told) == (code, text, True, ["some"])
    assert (await desk.counted())["tokens"] > 100


async def test_nobody_listens(desk: Desk) -> None:
    await desk.configure(openai("http://127.0.0.1:9/v1"))
    error = await failing(desk)
    assert (error.code, str(error)) == ("LLM_UNAVAILABLE", "the provider cannot be reached")
    assert "tokens" not in await desk.counted()


@BOTH
@pytest.mark.parametrize("usage", [(-5, -1000), (2**62, 2**62), (10**18, 10**19)])
async def test_counts_that_make_no_sense_are_estimated(
    desk: Desk, fake: FakeLlm, kind: Any, usage: tuple[int, int]
) -> None:
    fake.otherwise = Say("123456", usage=usage)
    await desk.configure(at(kind, fake))
    assert (await desk.ask(prompt="x" * 30))["usage"] == {"inputTokens": 10, "outputTokens": 2}
    assert (await desk.counted())["tokens"] == 12


@pytest.mark.parametrize("digits", [30, 400])
async def test_counts_of_any_length_are_estimated(desk: Desk, fake: FakeLlm, digits: int) -> None:
    usage = b'{"prompt_tokens": %s, "completion_tokens": 5}' % (b"1" * digits)
    message = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": %s}' % usage
    fake.otherwise = Say(raw=message)
    await desk.configure(openai(fake.openai))
    assert (await desk.ask(prompt="x" * 30))["usage"] == {"inputTokens": 10, "outputTokens": 5}
    assert (await desk.counted())["tokens"] == 15
    assert await desk.redis.hlen("uhlp:llm:held:alpha") == 0


async def test_a_busy_provider_is_asked_again_after_the_pause_that_it_names(
    desk: Desk, fake: FakeLlm
) -> None:
    fake.say(Say(status=429, headers={"Retry-After-Ms": "30"}), Say(status=503, headers={"Retry-After": "0"}))
    await desk.configure(openai(fake.openai, retries={"max": 2}))
    result = await desk.ask()
    assert (result["attempts"], result["completion"]) == (3, "hello")
    assert (await desk.counted())["failures"] == 2


async def test_a_pause_that_is_too_long_is_not_waited_for(desk: Desk, fake: FakeLlm) -> None:
    fake.say(Say(status=429, headers={"Retry-After": "3600"}))
    config = openai(fake.openai, retries={"max": 2}, fallbacks=["p/other"])
    await desk.configure(config)
    result = await desk.ask()
    assert (result["model"], result["attempts"]) == ("other", 2)
    assert result["costUsd"] is None  # the fallback's price is not known, so the sum is not either


async def test_fallbacks_are_tried_in_order_also_after_invalid_answers(desk: Desk, fake: FakeLlm) -> None:
    fake.say(Say(status=400), Say("not json"), Say("{}"))
    await desk.configure(openai(fake.openai, fallbacks=["p/second", "third"]))
    result = await desk.ask(outputFormat="json", maxRepairs=0)
    assert [seen.body["model"] for seen in fake.seen] == ["m", "second", "third"]
    assert (result["output"], result["model"]) == ({}, "third")
    assert (await desk.log())[-1]["details"]["failures"] == [
        "p/m: LLM_BAD_REQUEST",
        "p/second: LLM_INVALID_OUTPUT",
    ]


async def test_an_optional_provider_without_its_secret_is_passed_over(
    desk: Desk, fake: FakeLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "SECRET_SECONDS", 0.0)
    key = desk.secrets.pop(("alpha", "secret:key"))
    config = openai(fake.openai, fallbacks=["free/other"])
    config["providers"]["free"] = {"type": "openai", "baseUrl": fake.openai}
    config["providers"]["p"]["optional"] = True
    await desk.configure(config)
    result = await desk.ask()
    assert (result["provider"], result["model"], result["attempts"]) == ("free", "other", 1)
    desk.secrets["alpha", "secret:key"] = key
    assert (await desk.ask())["provider"] == "p"
    assert [seen.headers.get("authorization") for seen in fake.seen] == [None, f"Bearer {key}"]


async def test_a_provider_without_its_secret_is_an_error_otherwise(desk: Desk, fake: FakeLlm) -> None:
    desk.secrets.clear()
    for optional in (False, True):
        config = openai(fake.openai)
        config["providers"]["p"]["optional"] = optional
        await desk.configure(config)
        with pytest.raises(SecretMissing, match="alpha has no secret:key"):
            await desk.ask()
    assert fake.seen == []


async def test_the_whole_call_has_an_end(desk: Desk, fake: FakeLlm) -> None:
    fake.otherwise = Say(hang=True)
    await desk.configure(openai(fake.openai, timeoutSeconds=1.0, retries={"max": 5}))
    error = await failing(desk)
    assert (error.code, str(error)) == ("LLM_TIMEOUT", "no answer within llm.timeoutSeconds (1 s)")
    assert (await desk.counted())["tokens"] > 100


async def test_a_secret_that_takes_long_is_no_lack_of_turns(desk: Desk, fake: FakeLlm) -> None:
    known = threading.Event()

    class Slow(dict[tuple[str, str], str]):
        def __getitem__(self, key: tuple[str, str]) -> str:
            known.wait()
            return super().__getitem__(key)

    desk.secrets = Slow(desk.secrets)
    await desk.configure(openai(fake.openai, timeoutSeconds=0.1))
    error = await failing(desk)
    known.set()
    assert (error.code, str(error)) == ("LLM_TIMEOUT", "no answer within llm.timeoutSeconds (0.1 s)")


async def test_a_caller_who_goes_is_counted(desk: Desk, fake: FakeLlm) -> None:
    fake.otherwise = Say(hang=True)
    await desk.configure(openai(fake.openai))
    call = asyncio.create_task(desk.ask())
    while not fake.seen:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await desk.counted())["tokens"] > 100
    assert await desk.redis.hlen("uhlp:llm:held:alpha") == 0
    assert (await desk.log())[-1]["message"] == "p/m: CANCELLED"


async def test_scripted_failures(desk: Desk) -> None:
    kinds = ("rateLimited", "refused", "timeout", "unavailable", "badRequest", "cut")
    rules = [
        {"match": {"contains": kind}, "replies": [{"fail": kind, **({"text": "a"} if kind == "cut" else {})}]}
        for kind in kinds
    ]
    await desk.script(*rules, retries={"max": 0})
    codes = [(await failing(desk, prompt=kind)).code.removeprefix("LLM_") for kind in kinds]
    assert codes == ["RATE_LIMITED", "REFUSED", "TIMEOUT", "UNAVAILABLE", "BAD_REQUEST", "UNAVAILABLE"]


# -- the secret ------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "answer",
    [
        Say(status=401, error={"message": f"Incorrect API key provided: {KEY}"}),
        Say(status=400, error={"message": f"bad header Authorization: Bearer {KEY}"}),
        Say(status=500, error={"message": KEY}),
        Say(raw=f'{{"echo": "{KEY}"}}'.encode()),
        Say("partial", cut=True),
        Say(status=429, error={"message": f"key {KEY} is over its limit"}),
    ],
)
async def test_the_secret_is_nowhere(
    desk: Desk, fake: FakeLlm, kind: Any, answer: Say, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.otherwise = answer
    await desk.configure(at(kind, fake))
    error = await failing(desk, prompt="a-private-question")
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)
    seen: list[BaseException | None] = [error]
    while seen:
        one = seen.pop()
        if one is not None:
            shown += repr(one) + repr(vars(one))
            seen += [one.__cause__, one.__context__]
    log = repr(await desk.log())
    assert KEY in (fake.seen[0].headers.get("authorization", "") + fake.seen[0].headers.get("x-api-key", ""))
    assert KEY not in shown + caplog.text + log
    assert "a-private-question" not in shown + caplog.text + log
    for client in (
        one for one in gc.get_objects() if type(one).__name__ in ("AsyncOpenAI", "AsyncAnthropic")
    ):
        assert KEY not in repr(vars(client))


@BOTH
async def test_keys_in_the_environment_go_to_nobody(
    desk: Desk, fake: FakeLlm, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "of-the-operator")
    for name in ("API_KEY", "AUTH_TOKEN"):
        monkeypatch.setenv(f"ANTHROPIC_{name}", "of-the-operator")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: of-the-operator")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Secret: of-the-operator")
    config = at(kind, fake)
    del config["providers"]["p"]["apiKey"]
    await desk.configure(config)
    await desk.ask()
    assert "of-the-operator" not in repr(fake.seen[0])
    assert not fake.seen[0].headers.keys() & {"authorization", "x-api-key"}


async def test_a_changed_secret_is_used_and_a_missing_one_is_told(
    desk: Desk, fake: FakeLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uhlp_mcp.llm.providers.SECRET_SECONDS", 0.0)
    await desk.configure(openai(fake.openai))
    await desk.ask()
    desk.secrets["alpha", "secret:key"] = "sk-new"
    await desk.ask()
    assert [seen.headers["authorization"] for seen in fake.seen] == [f"Bearer {KEY}", "Bearer sk-new"]

    desk.secrets.clear()
    with pytest.raises(UhlpError) as caught:
        await desk.ask()
    assert caught.value.code == "SECRET_MISSING"
