"""Code and schemas that someone pushes are read and never run, and no content makes the validator fail."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.apps import APP, app
from uhlp_state.json_schema.dialects import DRAFT_07, OF_OTHERS
from uhlp_state.problems import MAX_QUOTED, Code, Problem, did_you_mean, quoted
from uhlp_state.python_source import parse_python
from uhlp_state.schema_source import parse_schema, schema_mistakes
from uhlp_state.validate import validate


def test_names_at_the_top_level_are_found_and_others_are_not():
    source = b"""\
import os
from json import loads as imported
def function(): inner = 1
async def coroutine(): pass
class Class:
    def method(self): pass
name = lambda input, context: 1
first = second = function
annotated: int = 3
declared: int
left, right = 1, 2
if True:
    def conditional(): pass
"""
    assert parse_python(source).value == {
        "function", "coroutine", "Class", "name", "first", "second", "annotated",
    }  # fmt: skip


def test_code_is_not_run():
    source = b"raise SystemExit(1)\nimport os; os._exit(1)\n"
    assert parse_python(source).value == frozenset()


@pytest.mark.parametrize(
    "source",
    [
        b"(" * 100_000,
        b"x = " + b"[" * 90 + b"]" * 90,
        b"-" * 100_000 + b"1",
        b"x = " + b"+".join([b"1"] * 50_000),
        b"x" + b".a" * 50_000,
        b"if x:\n" + b"".join(b" " * n + b"if x:\n" for n in range(1, 200)),
        b"x = " + b"9" * 10_000,
        b"\\",
        b"\x00",
        b"\xff",
        b"# -*- coding: no-such-codec -*-\n",
        b"'\\N{no such name}'",
    ],
)
def test_no_source_brings_the_reader_down(source):
    parsed = parse_python(source)
    assert (parsed.value is None) == bool(parsed.problems)


@given(st.text(max_size=200) | st.text("def x()[]{}:=\n\t '\"\\#,.0+-*@", max_size=60))
def test_any_text_is_read_as_python_or_refused(text):
    parsed = parse_python(text.encode("utf-8", "surrogatepass"))
    assert all(problem.line >= 1 and problem.column >= 1 for problem in parsed.problems)


@given(st.binary(max_size=100))
def test_any_bytes_are_read_as_a_schema_or_refused(data):
    assert_schema_harmless(data)


KEYWORDS = st.sampled_from(
    [
        "$ref",
        "$dynamicRef",
        "$id",
        "$schema",
        "$defs",
        "$anchor",
        "properties",
        "items",
        "type",
        "enum",
        "not",
        "allOf",
        "pattern",
        "const",
        "if",
        "definitions",
        "dependencies",
    ]
)
SCALARS = st.sampled_from(
    [
        *("#", "#/$defs/a", "a", "http://[", "object", "(", "http://x/y", "#a", True, None, 1, -1.5),
        *(dialect.uri for dialect in OF_OTHERS),
    ]
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYWORDS, below, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(SCHEMAS)
def test_any_json_is_taken_as_a_schema_or_refused(schema):
    assert_schema_harmless(json.dumps(schema).encode())


@settings(max_examples=300)
@given(SCHEMAS)
def test_any_json_is_taken_as_a_schema_of_others_or_refused(schema):
    named = {**schema, "$schema": f"{DRAFT_07.uri}#"} if isinstance(schema, dict) else schema
    assert all(remedy for _, _, _, remedy in schema_mistakes(named, OF_OTHERS))


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({"items": [{}, {"type": "string"}], "additionalItems": False}, None),
        ({"$ref": "#/definitions/a", "definitions": {"a": {"$id": "#a"}}}, None),
        ({"dependencies": {"a": {"not": True}, "b": ["c"]}}, None),
        ({"dependencies": {"a": {}, "b": ["c"]}, "not": {"$ref": "#b"}}, Code.SCHEMA_REFERENCE),
        ({"items": [{"$ref": "https://evil.example/"}]}, Code.SCHEMA_REFERENCE),
        ({"additionalItems": {"pattern": "("}}, Code.SCHEMA_INVALID),
    ],
)
def test_schemas_of_others_may_be_of_draft_07(schema, code):
    named = {"$schema": f"{DRAFT_07.uri}#", **schema}
    assert [found for _, found, _, _ in schema_mistakes(named, OF_OTHERS)] == ([code] if code else [])
    # An app's own are not.
    assert schema_mistakes(named)


def assert_schema_harmless(data):
    parsed = parse_schema(data)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in parsed.problems)
    assert parsed.value is None or not parsed.problems


@pytest.mark.parametrize(
    "schema",
    [
        "true",
        '{"properties": {"a": {"$ref": "#"}}}',
        '{"$ref": "#/$defs/a", "$defs": {"a": {"$anchor": "x"}, "b": {"$ref": "#x"}}}',
        '{"$id": "https://example.org/a", "$ref": "#/$defs/a", "$defs": {"a": {}}}',
        '{"properties": {"$ref": {"type": "string"}}}',
        '{"const": {"$ref": "https://example.org/a"}}',
        '{"$schema": "https://json-schema.org/draft/2020-12/schema"}',
    ],
)
def test_schemas_that_are_complete_in_themselves_are_taken(schema):
    assert parse_schema(schema.encode()).problems == ()


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({"$ref": "#/a/b", "a": [1]}, Code.SCHEMA_REFERENCE),
        ({"$ref": "#/a/0/b", "a": ["text"]}, Code.SCHEMA_REFERENCE),
        ({"$ref": "#/a", "a": 5}, Code.SCHEMA_REFERENCE),
        ({"$ref": "#/%zz"}, Code.SCHEMA_REFERENCE),
        ({"$dynamicRef": "#anchor"}, Code.SCHEMA_REFERENCE),
        ({"$id": "http://x/y", "$defs": {"a": {"$id": "http://[", "$ref": "#"}}}, Code.SCHEMA_INVALID),
        ({"not": {"$schema": DRAFT_07.uri, "additionalItems": 1}}, Code.SCHEMA_INVALID),
        ({"enum": list(range(10_000))}, Code.SCHEMA_INVALID),
    ],
)
def test_schemas_that_cannot_be_used_are_refused(schema, code):
    assert [problem.code for problem in parse_schema(json.dumps(schema).encode()).problems] == [code]


def test_a_schema_too_deep_for_its_checker_is_refused():
    deep = '{"not": ' * 900 + "true" + "}" * 900
    assert [problem.code for problem in parse_schema(deep.encode()).problems] == [Code.SCHEMA_INVALID]


LINES = st.sampled_from([(path, line) for path, text in APP.items() for line in range(text.count("\n"))])
SPLICES = st.sampled_from(
    [
        "",
        "x",
        "- ",
        "  ",
        "[",
        "}",
        ": ",
        "null",
        "12",
        "true",
        "*a",
        "{a: b}",
        "[1, {b: c}]",
        "''",
        "\t",
        "\x00",
    ]
)


@settings(max_examples=500)
@given(st.lists(st.tuples(LINES, st.integers(0, 60), SPLICES), min_size=1, max_size=3))
def test_no_damage_to_an_app_brings_the_validator_down(damages):
    files = dict(APP)
    for (path, line), column, splice in damages:
        lines = files[path].split("\n")
        lines[line] = lines[line][:column] + splice + lines[line][column + len(splice) :]
        files[path] = "\n".join(lines)
    result = validate(app(files), "demo")
    assert (result.snapshot is None) == bool(result.problems)


def test_a_problem_for_people_and_for_tools():
    problem = Problem("state/a.yaml", 3, 5, Code.UNKNOWN_KEY, "unknown key 'x'", "did you mean 'y'?")
    assert problem.format() == "state/a.yaml:3:5 UNKNOWN_KEY unknown key 'x'\n    fix: did you mean 'y'?"
    assert problem.to_json() == {
        "file": "state/a.yaml",
        "line": 3,
        "column": 5,
        "code": "UNKNOWN_KEY",
        "message": "unknown key 'x'",
        "remedy": "did you mean 'y'?",
    }


def test_quoted_values_stay_short_and_on_one_line():
    assert quoted("a\nb") == r"'a\nb'"
    assert len(quoted("x" * 1000)) == MAX_QUOTED + 2


def test_a_suggestion_is_cheap_for_a_hostile_word():
    assert did_you_mean("x" * 1_000_000, ["abc"], "otherwise") == "otherwise"
