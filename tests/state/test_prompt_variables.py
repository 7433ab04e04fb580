"""What a prompt takes from its surroundings is told at push where it cannot be there."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, StrictUndefined

from state.apps import DEFINITION, MODEL, REGISTRY, app
from uhlp_gateway.request_data import request_data
from uhlp_runner.prompts import _variables
from uhlp_runner.request import PROMPT, parse
from uhlp_state.checks import prompts
from uhlp_state.problems import Code
from uhlp_state.validate import validate

CONFIGURED = DEFINITION + "  mail: {server: {host: localhost}}\n" + MODEL
LLM = REGISTRY + (
    "  - componentId: sum\n    handlerType: LLM\n    targetPoolName: python\n"
    "    taskDetails: {prompt_template: prompts/p.yaml}\n"
    "    configurationOverrides: {tone: kind, mail: {sender: ada}}\n"
)


def problems(text, registry=LLM, schema=None):
    changes = {
        "state/prompts/p.yaml": text,
        "state/component_registry.yaml": registry,
        "state/app_definition.yaml": CONFIGURED,
        "state/schemas/body.json": None if schema is None else json.dumps(schema),
    }
    return validate(app(changes), "demo").problems


def unknown(template, schema=None):
    registry = LLM if schema is None else LLM + "    requestSchema: schemas/body.json\n"
    found = problems(f"template: {json.dumps(template)}\n", registry, schema)
    assert {problem.code for problem in found} <= {Code.TEMPLATE_UNKNOWN_NAME}
    return sorted(problem.message.rpartition(" has no ")[2] for problem in found)


def test_a_member_that_there_is_not_is_told_with_the_nearest():
    text = "template: |\n  {{ config.nothing }}\n\n  {{ context.appid }} {{ httpDetails['metod'] }}\n"
    [config, context, http] = problems(text)
    assert (config.line, config.column, config.code) == (2, 3, Code.TEMPLATE_UNKNOWN_NAME)
    assert config.message == "the component 'sum' has no 'config.nothing'"
    assert config.remedy == "add it to `configuration`, or ask first: `is defined` or `default()`"
    assert (context.line, context.remedy) == (4, "did you mean 'appId'?")
    assert (http.line, http.remedy) == (4, "did you mean 'method'?")


@pytest.mark.parametrize(
    ("template", "names"),
    [
        (
            "{{ config.greeting }}{{ config.tone }}{{ config.mail.sender }}{{ config['mail'].server.host }}",
            [],
        ),
        (
            "{{ config.greeting.upper() }}{{ config.items() | list }}{{ config.mail.get('x') }}{{ config }}",
            [],
        ),
        (
            "{{ httpDetails.headers.any }}{{ httpDetails.json.any }}{{ httpDetails.bodyEncoding }}",
            [],
        ),
        (
            "{{ config.mail.sendr }}{{ config.mail.server['prt'] }}",
            ["'config.mail.sendr'", "'config.mail.server.prt'"],
        ),
        ("{{ config.no }}{{ config.no }}{{ config.no.deep }}", ["'config.no'"]),
        # What is asked about once is asked about there and nowhere else.
        ("{{ config.no | default('') }}", []),
        ("{{ config.no | default('') | upper }}{{ nope is defined }}{{ nope | d(1) }}", []),
        ("{{ config.no | default('') }}{{ config.no }}", ["'config.no'"]),
        ("{{ nope | default('') }}{{ nope }}", ["variable 'nope'"]),
        ("{{ config.no | upper | default('') }}", ["'config.no'"]),
        ("{{ config.no.deep | default('') }}", ["'config.no'"]),
        ("{{ nope.deep is defined }}", ["variable 'nope'"]),
        ("{% if nope is defined %}{{ nope.deep }}{% endif %}", []),
        ("{% if nope is defined %}{{ nope }}{% endif %}{{ nope }}", ["variable 'nope'"]),
        ("{% if nope is defined %}{{ config.no }}{% endif %}", []),
        ("{% if config.tone is defined %}{{ config.no }}{% endif %}", ["'config.no'"]),
        ("{% if nope is undefined %}x{% else %}{{ nope }}{% endif %}", []),
        ("{% if nope is not defined %}{{ nope }}{% endif %}", ["variable 'nope'"]),
        ("{% if input and nope is defined and nope.x %}{{ nope }}{% endif %}", []),
        ("{% if input or nope is defined %}{{ nope }}{% endif %}", ["variable 'nope'"]),
        ("{% if nope is not defined or nope.x %}x{% endif %}", []),
        ("{{ nope.x if nope is defined else config.no }}", ["'config.no'"]),
        (
            "{% if input %}x{% elif nope is defined %}{{ nope }}{% else %}{{ nope }}{% endif %}",
            ["variable 'nope'"],
        ),
        # What the template names itself is not looked up.
        ("{% set config = {'x': 1} %}{{ config.x }}", []),
        ("{{ config.no }}{% set config = 1 %}{{ config.x }}", ["'config.no'"]),
        (
            "{% for config in input %}{{ config.x }}{{ loop.index }}{% else %}{{ config.no }}{% endfor %}",
            ["'config.no'"],
        ),
        ("{% for a, b in config.items() if a %}{{ a }}{{ b.c }}{% endfor %}{{ a }}", ["variable 'a'"]),
        ("{% with config = 1, b = config.no %}{{ config.x }}{{ b }}{% endwith %}", ["'config.no'"]),
        ("{% if input %}{% set x = 1 %}{% else %}{% set x = 2 %}{% endif %}{{ x }}", []),
        ("{% if input %}{% set x = 1 %}{% endif %}{{ x }}", ["variable 'x'"]),
        (
            "{% set n = namespace(a=1) %}{% set n.a = config.no %}{% set m.a = 1 %}",
            ["'config.no'", "variable 'm'"],
        ),
    ],
)
def test_what_is_known_of_the_variables(template, names):
    assert unknown(template) == names


def closed(**properties):
    return {"type": "object", "properties": properties, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ({"properties": {"a": {}}, "additionalProperties": False}, []),
        ({"type": "object", "properties": {"a": {}}}, []),
        (closed(a={}) | {"patternProperties": {}}, []),
        (closed(a={}), ["'httpDetails.json.b'", "'input.b'"]),
        (closed(a=closed(), b={"type": "object"}), ["'input.a.c'"]),
    ],
)
def test_a_closed_schema_tells_what_a_body_may_have(schema, names):
    assert (
        unknown("{{ input.a.c }}{{ input.b.d }}{{ httpDetails.json.b }}{{ input.a.keys() }}", schema) == names
    )


def test_what_is_known_is_what_components_are_given():
    http = json.loads(request_data("POST", "/a", "/a", {}, [(b"content-type", b"application/json")], b"{}"))
    body = {
        "requestId": "r",
        "requestData": http,
        "context": {"tree": "t", "taskDetails": {PROMPT: "p.yaml"}},
    }
    given = _variables(parse(json.dumps(body).encode(), prompts=True))
    assert given["httpDetails"].keys() == set(prompts.HTTP_DETAILS)
    assert given["context"].keys() == set(prompts.CONTEXT)


def test_each_component_that_uses_a_prompt_must_have_what_it_needs():
    other = LLM + (
        "  - {componentId: two, handlerType: LLM, targetPoolName: python,"
        " taskDetails: {prompt_template: prompts/p.yaml}}\n"
    )
    assert problems("template: '{{ config.tone }}'\n") == ()
    [problem] = problems("template: '{{ config.tone }}'\n", other)
    assert problem.message == "the component 'two' has no 'config.tone'"


GIVEN = {"config": {"a": 1, "m": {"b": ""}}, "context": {"appId": "demo"}}
PATHS = st.sampled_from(
    ["config.a", "config.m.b", "config['m']", "config.no", "config.m.no", "config.no.x", "context.appId",
     "nope", "nope.x", "v", "config", "1"]
)  # fmt: skip
EXPRESSIONS = st.recursive(
    PATHS,
    lambda inner: st.one_of(
        st.builds("{} | default({})".format, PATHS, inner),
        st.builds("({} is {})".format, PATHS, st.sampled_from(["defined", "undefined", "not defined"])),
        st.builds("(not {})".format, inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
    ),
    max_leaves=6,
)
TEMPLATES = st.recursive(
    st.builds("{{{{ {} }}}}".format, EXPRESSIONS) | st.builds("{{% set v = {} %}}".format, EXPRESSIONS),
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("{{% if {} %}}{}{{% elif {} %}}{}{{% else %}}{}{{% endif %}}".format,
                  EXPRESSIONS, inner, EXPRESSIONS, inner, inner),
        st.builds("{{% for v in [{}] if {} %}}{}{{% else %}}{}{{% endfor %}}".format,
                  EXPRESSIONS, EXPRESSIONS, inner, inner),
    ),
    max_leaves=5,
)  # fmt: skip


@given(TEMPLATES)
def test_a_template_without_problems_finds_everything(template):
    registry = LLM.replace("{tone: kind, mail: {sender: ada}}", json.dumps(GIVEN["config"]))
    if problems(f"template: {json.dumps(template)}\n", registry) == ():
        Environment(undefined=StrictUndefined).from_string(template).render(GIVEN)
