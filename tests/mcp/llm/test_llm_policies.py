"""Policies around every LLM call: what leaves for a provider, and what comes back."""

import pytest

from support.fake_llm import FakeLlm, Say
from support.llm_desk import Desk, openai
from uhlp_core.errors import UhlpError
from uhlp_policies.chain import PolicyDenied

KEY = "ghp_" + "a1B2" * 9


def rule(event: str, action: str, **more: object) -> dict[str, object]:
    return {"rules": [{"id": "r", "events": [event], "action": action, **more}]}


async def test_what_must_not_leave_is_redacted_before_it_does(desk: Desk, fake: FakeLlm) -> None:
    await desk.configure(
        openai(f"{fake.url}/v1"), policies={"p": rule("llm.request", "REDACT", detect=["key"])}
    )
    await desk.ask(prompt=f"use {KEY}", system=f"the key is {KEY}")
    sent = fake.seen[0].body["messages"]
    assert [message["content"] for message in sent] == ["the key is [key redacted]", "use [key redacted]"]


async def test_a_denied_question_reaches_no_provider_and_costs_nothing(desk: Desk, fake: FakeLlm) -> None:
    await desk.configure(openai(f"{fake.url}/v1"), policies={"p": rule("llm.request", "DENY", largerThan=20)})
    with pytest.raises(PolicyDenied, match="the policy p/r refuses this"):
        await desk.ask(prompt="x" * 21)
    assert fake.seen == []
    assert await desk.counted() == {}
    assert (await desk.ask(prompt="x" * 20))["completion"]


@pytest.mark.parametrize(
    "schema",
    [
        {"description": f"the key is {KEY}"},
        {"type": "object", "properties": {KEY: {"type": "string"}}},
        {"anyOf": [{"enum": ["a", KEY]}]},
    ],
)
@pytest.mark.parametrize("action", ["REDACT", "DENY"])
async def test_what_must_not_leave_does_not_leave_in_a_schema(
    desk: Desk, fake: FakeLlm, schema: dict[str, object], action: str
) -> None:
    await desk.configure(openai(fake.openai), policies={"p": rule("llm.request", action, detect=["key"])})
    with pytest.raises(
        PolicyDenied, match="outputSchema" if action == "REDACT" else "the policy p/r refuses"
    ):
        await desk.ask(outputSchema=schema)
    assert fake.seen == []
    fake.say(Say("5"))
    assert (await desk.ask(outputSchema={"description": "harmless", "maximum": 9}))["output"] == 5


@pytest.mark.parametrize(
    ("action", "told"), [("REDACT", "the model's name"), ("DENY", "the policy p/r refuses")]
)
async def test_what_must_not_leave_does_not_leave_as_a_model(
    desk: Desk, fake: FakeLlm, action: str, told: str
) -> None:
    await desk.configure(openai(fake.openai), policies={"p": rule("llm.request", action, detect=["key"])})
    with pytest.raises(PolicyDenied, match=told):
        await desk.ask(model=f"p/{KEY}")
    assert fake.seen == []
    audit = (desk.settings.home.app_log("alpha").parent / "audit.log").read_text()
    assert f'"action":"{action}"' in audit
    assert KEY not in audit
    await desk.ask(model="p/other")
    assert fake.seen[0].body["model"] == "other"


async def test_what_must_not_leave_does_not_leave_in_parameters(desk: Desk, fake: FakeLlm) -> None:
    await desk.configure(openai(fake.openai), policies={"p": rule("llm.request", "REDACT", detect=["key"])})
    messages = [{"role": "user", "content": f"use {KEY}"}]
    await desk.ask(messages=messages, parameters={"temperature": 0.5, "stop": [KEY, "end"]})
    sent = fake.seen[0].body
    assert (sent["temperature"], sent["stop"]) == (0.5, ["[key redacted]", "end"])
    assert sent["messages"] == [{"role": "user", "content": "use [key redacted]"}]


async def test_the_size_of_a_question_is_that_of_all_its_parts(desk: Desk, fake: FakeLlm) -> None:
    await desk.configure(openai(fake.openai), policies={"p": rule("llm.request", "DENY", largerThan=40)})
    for more in (
        {"outputSchema": {"type": "object", "properties": {"x" * 30: {}}}},
        {"outputSchema": {"description": "x" * 30}},
        {"parameters": {"stop": "x" * 31}},
    ):
        with pytest.raises(PolicyDenied):
            await desk.ask(prompt="x" * 10, **more)
    assert fake.seen == []


async def test_no_word_of_an_answer_gets_out_in_an_error(desk: Desk, fake: FakeLlm) -> None:
    schema = {"type": "integer"}
    for action, told in (("REDACT", r"'\[key redacted\]' is not"), ("DENY", "the policy p/r refuses")):
        await desk.configure(
            openai(fake.openai), policies={"p": rule("llm.response", action, detect=["key"])}, commit=action
        )
        fake.say(Say(f'"{KEY}"'))
        with pytest.raises(UhlpError, match=told) as caught:
            await desk.ask(outputSchema=schema, maxRepairs=0)
        assert caught.value.code == ("LLM_INVALID_OUTPUT" if action == "REDACT" else "POLICY_DENIED")
    assert [line["details"]["failures"] for line in await desk.log()] == [["p/m: LLM_INVALID_OUTPUT"]] * 2


async def test_a_remembered_answer_passes_the_policies_of_today(desk: Desk, fake: FakeLlm) -> None:
    fake.say(Say(KEY))
    config = openai(fake.openai, cacheSeconds=60.0)
    await desk.configure(config)
    assert (await desk.ask())["completion"] == KEY
    await desk.configure(
        config, commit="d" * 40, policies={"p": rule("llm.response", "REDACT", detect=["key"])}
    )
    again = await desk.ask()
    assert (again["cached"], again["completion"], again["output"]) == (
        True,
        "[key redacted]",
        "[key redacted]",
    )


async def test_an_answer_is_redacted_and_never_streamed_before_it_is(desk: Desk, fake: FakeLlm) -> None:
    await desk.configure(
        openai(f"{fake.url}/v1"), policies={"p": rule("llm.response", "REDACT", patterns=["[A-Za-z]+"])}
    )
    parts: list[str] = []

    async def emit(text: str, *, scripted: bool = False) -> None:
        parts.append(text)

    answer = await desk.ask(None, emit)
    assert parts == []
    assert "[pattern redacted]" in answer["completion"]
    assert "[pattern redacted]" in answer["output"]
