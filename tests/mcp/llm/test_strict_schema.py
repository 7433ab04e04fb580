"""What providers are sent of a schema: a form that they can hold a model to, and never another meaning."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from support.fake_llm import FakeLlm, Say
from support.llm_desk import Desk, anthropic, openai
from uhlp_mcp.llm.strict_schema import MAX_BYTES, strict_form

EXAMPLES = Path(__file__).parents[3] / "state_repos" / "examples"
SUMMARY: dict[str, Any] = yaml.safe_load(
    (EXAMPLES / "summariser/state/prompts/summarize_customer_interaction.yaml").read_text()
)["outputSchema"]
ANSWER = '{"main_reason": "m", "sentiment": "neutral", "action_items": [], "summary": "s"}'
TEXT = {"type": "string"}


def closed(required: list[str] | None = None, **members: Any) -> dict[str, Any]:
    names = list(members) if required is None else required
    return {"type": "object", "properties": members, "required": names, "additionalProperties": False}


async def sent(desk: Desk, fake: FakeLlm, schema: Any) -> tuple[Any, Any]:
    """What OpenAI and Anthropic get of a schema."""
    fake.otherwise = Say(ANSWER)
    for config in (openai(fake.openai), anthropic(fake.url)):
        await desk.configure(config)
        await desk.ask(outputSchema=schema)
    by_openai, by_anthropic = (seen.body for seen in fake.seen)
    return by_openai["response_format"]["json_schema"], by_anthropic.get("output_config")


async def test_the_example_s_schema_holds_both_providers(desk: Desk, fake: FakeLlm) -> None:
    to_openai, to_anthropic = await sent(desk, fake, SUMMARY)
    assert to_openai == {"name": "answer", "schema": SUMMARY, "strict": True}
    assert to_anthropic == {"format": {"type": "json_schema", "schema": SUMMARY}}


async def test_open_objects_are_closed_and_what_providers_do_not_know_is_told_in_words(
    desk: Desk, fake: FakeLlm
) -> None:
    members = SUMMARY["properties"] | {
        "summary": {"type": "string", "description": "Short.", "maxLength": 400}
    }
    schema = {"type": "object", "properties": members, "required": list(members)}
    told = {"type": "string", "description": 'Short.\n\n{"maxLength":400}'}
    form = closed(**(members | {"summary": told}))
    to_openai, to_anthropic = await sent(desk, fake, schema)
    assert (to_openai["schema"], to_openai["strict"]) == (form, True)
    assert to_anthropic["format"]["schema"] == form


async def test_a_member_that_may_be_left_out_stays_so(desk: Desk, fake: FakeLlm) -> None:
    schema = SUMMARY | {"required": ["summary"]}
    to_openai, to_anthropic = await sent(desk, fake, schema)
    assert (to_openai["schema"], to_openai["strict"]) == (schema, False)
    assert to_anthropic["format"]["schema"] == schema


async def test_a_schema_without_a_strict_form_goes_in_words(desk: Desk, fake: FakeLlm) -> None:
    schema = {"type": "object", "additionalProperties": True}
    to_openai, to_anthropic = await sent(desk, fake, schema)
    assert (to_openai["schema"], to_openai["strict"], to_anthropic) == (schema, False, None)
    assert '"additionalProperties":true' in fake.seen[1].body["system"]


@pytest.mark.parametrize(
    ("member", "form"),
    [
        ({"type": ["string", "null"], "maxLength": 3}, {"anyOf": [
            {"type": "string", "description": '{"maxLength":3}'},
            {"type": "null", "description": '{"maxLength":3}'},
        ]}),
        ({"oneOf": [TEXT, {"enum": [1]}], "title": "T"}, {"anyOf": [TEXT, {"enum": [1]}], "title": "T"}),
        ({"enum": ["a", 1, None]}, {"enum": ["a", 1, None]}),
        ({"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["a"]}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": "x"}, {"type": "string", "description": '{"format":"x"}'}),
        ({"type": "array", "items": TEXT, "uniqueItems": True},
         {"type": "array", "items": TEXT, "description": '{"uniqueItems":true}'}),
        ({"$ref": "#/$defs/t", "description": "d"}, {"$ref": "#/$defs/t"}),
    ],
)  # fmt: skip
def test_forms_of_members(member: Any, form: Any) -> None:
    found = strict_form(closed(m=member) | {"$defs": {"t": TEXT}})
    assert found is not None
    assert found.schema == closed(m=form) | {"$defs": {"t": TEXT}}


@pytest.mark.parametrize(
    "member",
    [
        {},
        True,
        {"type": "object"},
        {"type": "object", "properties": {"a": TEXT}, "additionalProperties": TEXT},
        {"type": "object", "properties": {"a": TEXT}, "required": ["b"]},
        {"type": "object", "properties": {"a": TEXT}, "patternProperties": {"^x": TEXT}},
        {"type": "object", "properties": {"a": TEXT}, "anyOf": [closed(b=TEXT)]},
        {"allOf": [closed(a=TEXT), closed(b=TEXT)]},
        {"type": "array"},
        {"enum": [{"a": 1}]},
        {"$ref": "#/properties/m"},
        {"$ref": "#/$defs/none"},
        {"$ref": "#/$defs/loop"},
        {"$ref": "#/$defs/t", "properties": {"a": TEXT}},
        closed(a=closed(a=closed(a=closed(a=closed(a=closed(a=TEXT)))))),
    ],
)
def test_what_a_form_would_shut_out_has_none(member: Any) -> None:
    definitions = {"t": TEXT}
    if member == {"$ref": "#/$defs/loop"}:
        definitions["loop"] = closed([], again={"$ref": "#/$defs/loop"})
    assert strict_form(closed(m=member) | {"$defs": definitions}) is None


def test_only_objects_have_a_form_and_none_too_large() -> None:
    assert strict_form({"type": "array", "items": TEXT}) is None
    assert strict_form(closed(m={"type": "string", "description": "x" * MAX_BYTES})) is None


def test_a_form_is_made_once_and_never_smaller_than_what_is_reserved_for_it() -> None:
    schema = {"type": "object", "properties": {"a": TEXT}}
    form = strict_form(schema)
    assert form is strict_form(dict(schema))
    assert form is not None
    assert form.size > len('{"type":"object","properties":{"a":{"type":"string"}}}')


VALUES = st.recursive(
    st.sampled_from([None, True, 0, 7, "", "ab", "abc"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)
SCHEMAS = st.recursive(
    st.sampled_from(
        [
            TEXT,
            {"type": "string", "maxLength": 2},
            {"type": ["integer", "null"], "minimum": 1},
            {"enum": [0, "ab", None]},
            {"type": "boolean"},
            {"$ref": "#/$defs/d"},
        ]
    ),
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items, "minItems": 1}, inner)
        | st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner)
        | st.builds(
            lambda a, b, required: {
                "type": "object",
                "properties": {"a": a, "b": b},
                "required": required,
            },
            inner,
            inner,
            st.lists(st.sampled_from("ab"), unique=True),
        )
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(SCHEMAS, SCHEMAS, VALUES)
def test_a_form_shuts_out_no_value_that_the_schema_names(member: Any, defined: Any, value: Any) -> None:
    # Values have no other members than those with names, so that closing objects takes nothing from them.
    schema = {**closed(a=member), "$defs": {"d": defined}}
    form = strict_form(schema)
    if form is not None and Draft202012Validator(schema).is_valid({"a": value}):
        assert Draft202012Validator(form.schema).is_valid({"a": value})
