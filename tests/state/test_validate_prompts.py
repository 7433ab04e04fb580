"""What is wrong with a prompt is said at its line of the YAML file, before anything is rendered."""

import pytest

from state.apps import DEFINITION, MODEL, REGISTRY, app, places
from uhlp_state.problems import Code
from uhlp_state.prompt_source import parse_prompt
from uhlp_state.validate import validate

FILE = "state/prompts/p.yaml"
LLM = REGISTRY + (
    "  - componentId: sum\n    handlerType: LLM\n    targetPoolName: python\n"
    "    taskDetails: {prompt_template: prompts/p.yaml}\n"
    "    configurationOverrides: {tone: kind}\n"
)
GOOD = """\
description: Everything that a prompt can have.
model: anything
parameters: {temperature: 0.2}
system: You are brief. {{ config.tone }}
maxRepairs: 2
outputFormat: JSON
outputSchema: {type: object, required: [main], properties: {main: {type: string}}}
examples:
  - input: {input: {text: hello}}
    output: {main: a greeting}
template: |
  {% set words = input.text.split() %}
  {% for word in words %}{{ loop.index }} {{ word | upper }}{% endfor %}
  {% if history is defined %}{{ history }}{% endif %}{{ note | default("none") }}
  {{ context.appId }} {{ httpDetails.method }} {{ range(3) | list }}
"""


def problems(text, registry=LLM):
    source = app(
        {
            FILE: text,
            "state/component_registry.yaml": registry,
            "state/app_definition.yaml": DEFINITION + MODEL,
        }
    )
    return validate(source, "demo").problems


def test_a_prompt_with_everything_is_valid():
    assert problems(GOOD) == ()


@pytest.mark.parametrize(
    ("text", "line", "column", "code"),
    [
        ("template: |\n  fine\n    {{ input.a\n", 3, 5, Code.TEMPLATE_SYNTAX),
        ("# a\ntemplate: |-\n\n  fine\n  {% if input %}\n", 5, 3, Code.TEMPLATE_SYNTAX),
        ("template: |\n  a\n  {{ input | nofilter }}\n", 3, 3, Code.TEMPLATE_UNKNOWN_NAME),
        ("template: |\n  {% if x is defined %}{{ x | nofil }}{% endif %}", 2, 3, Code.TEMPLATE_UNKNOWN_NAME),
        ("template: |\n  {{ input | safe }}\n", 2, 3, Code.TEMPLATE_UNKNOWN_NAME),
        ("template: |\n  {{ input | map('safe') | list }}\n", 2, 3, Code.TEMPLATE_UNKNOWN_NAME),
        ("template: |\n  {{ input | selectattr('a', 'tset') }}\n", 2, 3, Code.TEMPLATE_UNKNOWN_NAME),
        ("template: |\n  {{ input is nothing }}\n", 2, 3, Code.TEMPLATE_UNKNOWN_NAME),
        ("template: |\n  {% include 'a' %}\n", 2, 3, Code.TEMPLATE_REFUSED),
        ("template: |\n  {% import 'a' as a %}\n", 2, 3, Code.TEMPLATE_REFUSED),
        ("template: |\n  {% from 'a' import b %}\n", 2, 3, Code.TEMPLATE_REFUSED),
        ("template: |\n  {% extends 'a' %}\n", 2, 3, Code.TEMPLATE_REFUSED),
        ("template: |\n  {% macro m(a) %}{{ a }}{% endmacro %}\n", 2, 3, Code.TEMPLATE_REFUSED),
        ("template: |\n  {% set a %}{{ input }}{% endset %}\n", 2, 3, Code.TEMPLATE_REFUSED),
        ("template: |\n  {% filter upper %}{{ input }}{% endfilter %}\n", 2, 3, Code.TEMPLATE_REFUSED),
        ("template: |\n  {% for x in input recursive %}{{ x }}{% endfor %}\n", 2, 3, Code.TEMPLATE_REFUSED),
        ("template: |\n  {{ ''.__class__ }}\n", 2, 3, Code.TEMPLATE_REFUSED),
        ("template: |\n  a\n\n  {{ inptu.text }} {{ input }}\n", 4, 3, Code.TEMPLATE_UNKNOWN_NAME),
        ("system: |\n  {{ transcript }}\ntemplate: x\n", 2, 3, Code.TEMPLATE_UNKNOWN_NAME),
        ("template: >\n  a\n  {{ transcript }}\n", 1, 11, Code.TEMPLATE_UNKNOWN_NAME),
        ("template: 'a {{ transcript }}'\n", 1, 11, Code.TEMPLATE_UNKNOWN_NAME),
        ("template: '{{ " + "(" * 5000 + "'\n", 1, 11, Code.TEMPLATE_SYNTAX),
        ("template: a\nstream: true\n", 2, 1, Code.UNKNOWN_KEY),
        ("template: a\noutputFormat: html\n", 2, 15, Code.BAD_VALUE),
        ("template: a\nmaxRepairs: 6\n", 2, 13, Code.BAD_VALUE),
        ("template: a\noutputSchema: {type: objct}\n", 2, 22, Code.SCHEMA_INVALID),
        ("template: a\nexamples:\n  - {input: {}}\n", 3, 5, Code.MISSING_KEY),
        (
            "template: a\noutputSchema: {required: [x]}\nexamples:\n  - input: {}\n    output: {y: 1}\n",
            5,
            13,
            Code.EXAMPLE_INVALID,
        ),
        (
            "template: a\noutputSchema: {required: [x]}\nexamples:\n"
            "  - {input_vars: {}, expected_output: '{\"y\": 1}'}\n",
            4,
            39,
            Code.EXAMPLE_INVALID,
        ),
        (
            "template: a\noutputSchema: {required: [x]}\nexamples:\n  - {input: {}, output: 'x: 1'}\n",
            4,
            25,
            Code.EXAMPLE_INVALID,
        ),
        (
            "template: a\noutputFormat: json\nexamples:\n  - {input: {}, output: a}\n",
            4,
            25,
            Code.EXAMPLE_INVALID,
        ),
        (
            "template: a\noutputFormat: yaml\nexamples:\n  - {input: {}, output: 'a: ['}\n",
            4,
            25,
            Code.EXAMPLE_INVALID,
        ),
        (
            "template: a\noutputFormat: xml\nexamples:\n  - {input: {}, output: {a: 1}}\n",
            4,
            25,
            Code.EXAMPLE_INVALID,
        ),
        ("template: a\nexamples:\n  - {input: {}, input_vars: {}, output: a}\n", 3, 17, Code.UNKNOWN_KEY),
        ("template: a\noutputFormat: text\noutputSchema: {type: object}\n", 1, 1, Code.BAD_VALUE),
        ("template: a\nparameters: {temprature: 1}\n", 2, 13, Code.BAD_VALUE),
        ("template: a\nparameters: {max_tokens: 0}\n", 2, 13, Code.BAD_VALUE),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_place(text, line, column, code):
    assert places(problems(text)) == [(FILE, line, column, code)]


def test_the_remedy_names_the_nearest_variable_or_how_to_reach_the_body():
    near, far = problems("template: |\n  {{ inptu }}\n  {{ transcript }}\n")
    assert (near.line, near.remedy) == (2, "did you mean 'input'?")
    assert far.remedy == "write `input.transcript` for a member of the request's JSON body"


@pytest.mark.parametrize(
    ("form", "output"),
    [("json", '{"main": "a greeting"}'), ("yaml", "main: a greeting"), ("xml", "<a><main>x</main></a>")],
)
def test_an_example_may_have_the_specifications_names_and_the_answers_own_text(form, output):
    text = (
        f"template: a\noutputFormat: {form}\noutputSchema: {{type: object, required: [main]}}\n"
        f"examples: [{{input_vars: {{input: hello}}, expected_output: '{output}'}}]\n"
    )
    assert problems(text) == ()
    [example] = parse_prompt(text.encode()).value.prompt.examples
    assert example.to_json() == {"input": {"input": "hello"}, "output": output}


def test_a_prompt_that_no_component_uses_may_take_any_variable():
    assert problems("template: '{{ transcript }}'\n", REGISTRY) == ()


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ("    stream: true\n", []),
        ("    stream: true\n    expectedResultFormat: generic\n", []),
        ("    stream: true\n    expectedResultFormat: httpResponse\n", [Code.BAD_VALUE]),
        ("    stream: 'yes'\n", [Code.WRONG_TYPE]),
    ],
)
def test_what_may_stream(lines, codes):
    assert [problem.code for problem in problems("template: x\n", LLM + lines)] == codes


def test_code_does_not_stream():
    [problem] = problems("template: x\n", REGISTRY + "    stream: true\n")
    assert (problem.code, problem.message) == (Code.BAD_VALUE, "a JIT component does not stream")
