"""YAML with positions: what values mean, where they are, and that no input does harm."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uhlp_state.problems import Code
from uhlp_state.yaml_source import MAX_BYTES, MAX_DEPTH, MAX_FINDINGS, parse_yaml


def codes(data):
    return [problem.code for problem in parse_yaml(data).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-7", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("010", 10),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("2026-01-31", "2026-01-31"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ('"12"', "12"),
        ("'true'", "true"),
        ('""', ""),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    assert parse_yaml(f"a: {text}".encode()).value.value == {"a": value}


@pytest.mark.parametrize(
    "text", ["18446744073709551616", "-9223372036854775809", "1" * 5000, "1e400", ".nan"]
)
def test_numbers_that_json_cannot_carry_are_refused(text):
    assert codes(f"a: {text}".encode()) == [Code.YAML_NUMBER]


@pytest.mark.parametrize("data", [b"", b"# only a comment\n", b"\xef\xbb\xbf", b"~", b"---\n"])
def test_an_empty_document_is_an_empty_mapping(data):
    assert parse_yaml(data).value.value == {}


def test_positions_of_keys_and_values():
    document = parse_yaml(b"a:\n  - x\n  - {b: 1, c:   2}\n").value
    assert document.position(("a",), key=True) == (1, 1)
    assert document.position(("a",)) == (2, 3)
    assert document.position(("a", 1, "c"), key=True) == (3, 12)
    assert document.position(("a", 1, "c")) == (3, 17)


def test_the_place_of_what_is_missing_is_that_of_its_mapping():
    document = parse_yaml(b"a:\n  b: {c: 1}\n").value
    assert document.position(("a", "b", "x")) == (2, 6)
    assert document.position(("x",)) == (1, 1)


def test_columns_count_characters():
    assert parse_yaml("é: 1\n'日本': x".encode()).value.position(("日本",)) == (2, 7)


def test_an_alias_is_the_value_of_its_anchor_and_has_its_place():
    document = parse_yaml(b"a: &x {b: 1}\nc: *x\n").value
    assert document.value == {"a": {"b": 1}, "c": {"b": 1}}
    assert document.position(("c", "b")) == (1, 11)


def test_all_duplicate_keys_are_reported_with_the_line_of_the_first():
    problems = parse_yaml(b"a: 1\nb: 2\na: 3\nb: 4\n").problems
    assert [(problem.line, problem.message) for problem in problems] == [
        (3, "the key 'a' is already on line 1"),
        (4, "the key 'b' is already on line 2"),
    ]


def test_a_flood_of_problems_is_cut_off():
    found = codes(b"a: 1\n" * 1000)
    assert len(found) == MAX_FINDINGS + 1
    assert found[-1] == Code.TOO_MANY_PROBLEMS


BILLION_LAUGHS = b"a0: &a0 [lol]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 10)
)


@pytest.mark.parametrize(
    "data",
    [
        BILLION_LAUGHS,
        b"a: &a " + b"x" * 500_000 + b"\nb: [" + b"*a, " * 1000 + b"]",
        b"[" * 100_000,
        b"- " * 100_000,
        b"? " * 100_000,
        b"{a: " * 100_000,
        b"[" + b"a," * 200_000 + b"]",
        b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) if n else b"a0: &a0 []\n" for n in range(100)),
    ],
    ids=["laughs", "long text", "lists", "dashes", "keys", "maps", "wide", "stairs of aliases"],
)
def test_bombs_are_refused(data):
    (code,) = codes(data)
    assert code in (Code.YAML_TOO_COMPLEX, Code.YAML_SYNTAX, Code.YAML_KEY_NOT_TEXT)


def test_the_deepest_document_that_is_read():
    assert codes(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) == []
    assert codes(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)) == [Code.YAML_TOO_COMPLEX]


def test_a_file_beyond_the_size_limit_is_not_parsed():
    assert codes(b"#" * (MAX_BYTES + 1)) == [Code.FILE_TOO_LARGE]


def assert_harmless(data):
    parsed = parse_yaml(data)
    assert (parsed.value is None) == bool(parsed.problems)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in parsed.problems)
    if parsed.value is not None:
        orjson.dumps(parsed.value.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    assert_harmless(data)


YAML_PARTS = [*"abc01:,-?&*!|>'\"%@`[]{}#\n\t ~<", "  ", ": ", "- ", "&a ", "*a", "---\n", "<<: ", "\\x"]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(YAML_PARTS)))
def test_any_yaml_like_text_is_read_or_refused(parts):
    assert_harmless("".join(parts).encode())


JSON_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
)
JSON_VALUES = st.recursive(
    JSON_SCALARS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text("abcdef"), below, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abcdef", min_size=1), JSON_VALUES, min_size=1))
def test_json_means_in_yaml_what_it_means_in_json(value):
    assert parse_yaml(orjson.dumps(value)).value.value == value
