"""What a call gives back: over both SDKs and from a script, whole and streamed, parsed and repaired."""

import json
import math
from functools import reduce
from typing import Any

import pytest
from prometheus_client import REGISTRY

from support.fake_llm import FakeLlm, Say
from support.llm_desk import KEY, Desk, anthropic, openai
from uhlp_mcp.llm.errors import BadRequest, InvalidOutput, NotConfigured, Refused
from uhlp_mcp.tools import Caller

NESTED: dict[str, Any] = reduce(lambda schema, _: {"not": schema}, range(300), {})

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


def test_both_protocols_are_named(desk: Desk) -> None:
    (tool,) = desk.tools.tools()
    assert tool.name == "core.llm.generate"
    assert tool.streaming is not None


@pytest.mark.parametrize("kind", [openai, anthropic])
async def test_an_answer_of_a_provider(desk: Desk, fake: FakeLlm, kind: Any) -> None:
    await desk.configure(kind(fake.openai if kind is openai else fake.url))
    result = await desk.ask(
        prompt="What?", system="Be brief.", parameters={"temperature": 0.5, "max_tokens": 20}
    )
    assert result == {
        "completion": "hello",
        "output": "hello",
        "model": "m",
        "provider": "p",
        "scripted": False,
        "finishReason": "stop",
        "usage": {"inputTokens": 10, "outputTokens": 5},
        "costUsd": 0.02,
        "attempts": 1,
        "cached": False,
    }
    (seen,) = fake.seen
    assert (seen.body["model"], seen.body["max_tokens"], seen.body["temperature"]) == ("m", 20, 0.5)
    if kind is openai:
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert [turn["role"] for turn in seen.body["messages"]] == ["system", "user"]
    else:
        assert seen.headers["x-api-key"] == KEY
        assert seen.body["system"] == "Be brief."
        assert seen.body["messages"] == [{"role": "user", "content": "What?"}]


@pytest.mark.parametrize("kind", [openai, anthropic])
async def test_a_stream_tells_the_parts_and_returns_the_whole(desk: Desk, fake: FakeLlm, kind: Any) -> None:
    fake.say(Say("Hello, world ✔"))
    told: list[str] = []

    async def emit(text: str, *, scripted: bool = False) -> None:
        told.append(text)

    await desk.configure(kind(fake.openai if kind is openai else fake.url))
    result = await desk.ask(None, emit)
    assert told == ["Hell", "o, w", "orld", " ✔"]
    assert (result["completion"], result["usage"]) == (
        "Hello, world ✔",
        {"inputTokens": 10, "outputTokens": 5},
    )


@pytest.mark.parametrize("kind", [openai, anthropic])
async def test_a_schema_goes_to_the_provider_and_is_checked_all_the_same(
    desk: Desk, fake: FakeLlm, kind: Any
) -> None:
    fake.say(Say('{"name": 5}', usage=(10, 5)), Say('```json\n{"name": "Ada"}\n```', usage=(20, 6)))
    await desk.configure(kind(fake.openai if kind is openai else fake.url))
    result = await desk.ask(outputSchema=PERSON)
    assert result["output"] == {"name": "Ada"}
    assert result["attempts"] == 2
    assert result["usage"] == {"inputTokens": 30, "outputTokens": 11}
    first, second = fake.seen
    if kind is openai:
        assert first.body["response_format"]["json_schema"] == {
            "name": "answer",
            "schema": PERSON,
            "strict": True,
        }
    else:
        assert first.body["output_config"] == {"format": {"type": "json_schema", "schema": PERSON}}
    answered, asked_again = second.body["messages"][-2:]
    assert answered == {"role": "assistant", "content": '{"name": 5}'}
    assert "$.name: 5 is not of type 'string'" in asked_again["content"]


async def test_structured_output_can_be_left_out(desk: Desk, fake: FakeLlm) -> None:
    fake.say(Say('{"name": "Ada"}'))
    await desk.configure(openai(fake.openai, provider={"structuredOutput": False}))
    await desk.ask(outputSchema=PERSON)
    assert "response_format" not in fake.seen[0].body
    assert '"additionalProperties":false' in fake.seen[0].body["messages"][0]["content"]


@pytest.mark.parametrize(
    ("form", "text", "output"),
    [
        ("json", '[1, {"a": null}]', [1, {"a": None}]),
        ("yaml", "a: [1, yes]\nb: 2026-01-01", {"a": [1, "yes"], "b": "2026-01-01"}),
        ("yaml", "```yaml\na: 1\n```", {"a": 1}),
        ("xml", "<r a='1'><i>x</i><i>y</i><e/></r>", {"r": {"@a": "1", "i": ["x", "y"], "e": ""}}),
        ("text", "```json\n{}\n```", "```json\n{}\n```"),
    ],
)
async def test_formats_are_parsed(desk: Desk, form: str, text: str, output: Any) -> None:
    await desk.script({"replies": [{"text": text}]})
    assert (await desk.ask(outputFormat=form))["output"] == output


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        ("json", '{"a": 1', "not JSON: line 1"),
        ("json", "NaN", "not JSON"),
        ("json", "[" * 5000 + "]" * 5000, "not JSON"),
        ("json", "[" * 300 + "]" * 300, "JSON nested deeper than 64"),
        ("json", '{"a":' * 65 + "1" + "}" * 65, "JSON nested deeper than 64"),
        ("json", "[" + "[]," * 40_000 + "[]]", "JSON of more than 65536 values"),
        ("yaml", "a: &x [*x]", "not YAML"),
        ("yaml", "a: !!python/object:os.system x", "not YAML"),
        ("xml", "<a><b></a>", "not XML: line 1"),
        (
            "xml",
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
            "leave out the document type",
        ),
        ("xml", "<a>" * 100 + "</a>" * 100, "nested deeper"),
    ],
)
async def test_what_is_malformed_or_hostile_is_no_output(
    desk: Desk, form: str, text: str, reason: str
) -> None:
    await desk.script({"replies": [{"text": text}]})
    with pytest.raises(InvalidOutput, match=reason):
        await desk.ask(outputFormat=form, maxRepairs=0)


async def test_json_nested_deeper_than_can_be_written_is_mended(desk: Desk) -> None:
    nested: Any = 1
    for _ in range(64):
        nested = [nested]
    replies = [{"text": "[" * 300 + "]" * 300}, {"text": json.dumps(nested)}]
    await desk.script({"replies": replies}, cacheSeconds=60)
    result = await desk.ask(outputFormat="json", maxRepairs=1)
    assert (result["output"], result["attempts"]) == (nested, 2)


async def test_repairs_are_bounded_and_counted(desk: Desk) -> None:
    await desk.script({"replies": [{"text": "no", "inputTokens": 7, "outputTokens": 1}]})
    with pytest.raises(InvalidOutput, match="after 2 repairs"):
        await desk.ask(outputFormat="json", maxRepairs=2)
    assert await desk.counted() == {
        "attempts": 3,
        "calls": 1,
        "inputTokens": 21,
        "outputTokens": 3,
        "scripted": 3,
        "tokens": 24,
    }


async def test_deltas_are_those_of_the_first_attempt_only(desk: Desk) -> None:
    await desk.script({"replies": [{"chunks": ["{", "broken"]}, {"text": "{}"}]})
    told: list[str] = []

    async def emit(text: str, *, scripted: bool = False) -> None:
        told.append(text)

    result = await desk.ask(None, emit, outputFormat="json")
    assert told == ["{", "broken"]
    assert result["completion"] == "{}"


async def test_scripted_rules_match_fill_and_take_turns(desk: Desk) -> None:
    await desk.script(
        {"match": {"promptName": "greet"}, "replies": [{"text": "by name"}]},
        {"match": {"model": "big"}, "replies": [{"text": "by model"}]},
        {
            "match": {"regex": r"my name is (?P<name>\w+)"},
            "replies": [{"json": {"hi": "{{name}}", "n": 1, "all": ["{{1}} {{x}}"]}}],
        },
        {"match": {"contains": "turn"}, "replies": [{"text": "one"}, {"text": "two"}]},
        {"replies": [{"text": "otherwise"}]},
    )
    assert (await desk.ask(promptName="greet"))["completion"] == "by name"
    assert (await desk.ask(model="script/big"))["completion"] == "by model"
    filled = await desk.ask(prompt="Hi, my name is Ada.", outputFormat="json")
    assert filled["output"] == {"hi": "Ada", "n": 1, "all": ["Ada {{x}}"]}
    turns = [(await desk.ask(prompt="your turn"))["completion"] for _ in range(3)]
    assert turns == ["one", "two", "one"]
    last = await desk.ask()
    assert (last["completion"], last["scripted"], last["costUsd"]) == ("otherwise", True, 0.0)


async def test_a_script_is_told_from_a_model_whatever_the_app_calls_it(desk: Desk) -> None:
    told: list[tuple[str, bool]] = []

    async def emit(text: str, *, scripted: bool = False) -> None:
        told.append((text, scripted))

    providers = {"openai": {"type": "scripted", "file": "llm/rules.yaml"}}
    rule = {"replies": [{"text": "hello", "inputTokens": 7}, {"fail": "refused"}]}
    await desk.script(rule, providers=providers, model="openai/gpt-4o")
    labels = {"app": "alpha", "gen_ai_provider_name": "openai", "gen_ai_request_model": "gpt-4o"}

    def tokens(kind: str) -> float:
        name = "gen_ai_client_inference_usage_input_tokens_total"
        return REGISTRY.get_sample_value(name, {**labels, "uhlp_provider_type": kind}) or 0.0

    before = tokens("scripted")
    for _ in range(2):
        assert (await desk.ask(None, emit, cacheSeconds=60))["scripted"] is True
    with pytest.raises(Refused) as caught:
        await desk.ask(prompt="another")
    assert (told, caught.value.scripted) == ([("hello", True)] * 2, True)
    counted = await desk.counted("model|openai/gpt-4o")
    assert [counted[name] for name in ("calls", "cached", "attempts", "scripted")] == [3, 1, 2, 3]
    assert [line["details"]["scripted"] for line in await desk.log()] == [True] * 3
    assert (tokens("scripted") - before, tokens("openai")) == (7, 0)


async def test_without_a_matching_rule_the_call_says_so(desk: Desk) -> None:
    await desk.script({"match": {"contains": "never"}, "replies": [{"text": "x"}]})
    with pytest.raises(BadRequest, match="no rule of the scripted provider matches"):
        await desk.ask()


async def test_an_app_without_llm_is_told_what_to_write(desk: Desk) -> None:
    await desk.configure(None)
    with pytest.raises(NotConfigured, match="write `llm:` with `providers` and `model`"):
        await desk.ask()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "either a prompt or messages"),
        ({"messages": [{"role": "system", "content": "b"}]}, "at least one with the role user"),
        ({"parameters": {"n": 100}}, "'n' is not known"),
        ({"parameters": {"max_tokens": 0}}, "max_tokens must be a whole number"),
        ({"outputFormat": "text", "outputSchema": {}}, "text has no structure"),
        ({"outputSchema": {"type": "nonsense"}}, "outputSchema is not valid"),
        ({"outputSchema": {"$ref": "http://127.0.0.1:1/x"}}, "not a schema within this one"),
        ({"outputSchema": {"enum": [math.inf]}}, "the outputSchema holds a number that is infinite"),
        ({"outputSchema": NESTED}, "the outputSchema is nested deeper than 64 levels"),
        ({"parameters": {"stop": [["a"]]}}, "the parameter 'stop' must be a text, a number"),
        ({"parameters": {"temperature": math.inf}}, "the parameter temperature is infinite or no number"),
        ({"parameters": {"stop": ["a", math.nan]}}, "the parameter stop is infinite or no number"),
        ({"model": "p/"}, "names a provider only"),
    ],
)
async def test_wrong_arguments_are_told_before_anything_is_paid(
    desk: Desk, fake: FakeLlm, arguments: dict[str, Any], reason: str
) -> None:
    await desk.configure(openai(fake.openai))
    with pytest.raises(BadRequest, match=reason):
        await desk.ask(**arguments)
    assert fake.seen == []
    assert await desk.counted() == {}


async def test_a_call_that_came_to_no_model_is_in_the_log_too(desk: Desk) -> None:
    await desk.configure(None)
    with pytest.raises(NotConfigured):
        await desk.ask()
    (line,) = await desk.log()
    assert (line["level"], line["message"]) == ("warning", "no model: LLM_NOT_CONFIGURED")


async def test_one_line_in_the_log_for_a_call_and_no_word_of_it(desk: Desk, fake: FakeLlm) -> None:
    await desk.configure(openai(fake.openai))
    caller = Caller("alpha", "alpha", "a0", component="greet", request_id="r-1")
    await desk.ask(caller, prompt="the prompt", promptName="greet", promptVersion="v2")
    (line,) = await desk.log()
    assert line.pop("ts") > 0
    assert line["details"].pop("seconds") >= 0
    assert line == {
        "level": "info",
        "stream": "llm",
        "app": "alpha",
        "deployment": "alpha",
        "instance": "a0",
        "component": "greet",
        "requestId": "r-1",
        "message": "p/m: ok",
        "details": {
            "provider": "p",
            "model": "m",
            "scripted": False,
            "attempts": 1,
            "inputTokens": 10,
            "outputTokens": 5,
            "costUsd": 0.02,
            "failures": [],
            "prompt": {"name": "greet", "version": "v2"},
        },
    }
