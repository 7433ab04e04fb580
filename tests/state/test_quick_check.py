"""The quick check of values against a schema, which may never say yes in error."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from uhlp_state.json_schema.dialects import OF_OTHERS
from uhlp_state.json_schema.quick_check import compile_quick

NAMES = st.sampled_from(["a", "b", "c"])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 1.5, 2.0**60, 10**30]),
    st.sampled_from(["", "x", "ü", "xyz", "🎈🎈"]),
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def of(kind: str, **keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind)}, optional=keywords)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return of(
        "object",
        properties=st.dictionaries(NAMES, inner, max_size=3),
        required=st.lists(NAMES, max_size=2, unique=True),
        additionalProperties=st.booleans(),
        description=st.just("words"),
    )


LENGTH = st.integers(0, 2)
SCHEMAS = st.recursive(
    st.one_of(
        st.sampled_from([{}, True, {"type": "boolean"}, {"enum": [1, "x"]}]),
        st.sampled_from(
            [{"enum": ["", "x"]}, {"type": "string", "enum": ["ü"]}, {"type": "integer", "enum": ["x"]}]
        ),
        of("number", minimum=st.sampled_from([-1, 0.5]), maximum=st.sampled_from([1, 1.5, 2.0**60, 10**30])),
        of("string", minLength=LENGTH, maxLength=LENGTH, pattern=st.just("^x")),
        of("integer", minimum=st.integers(-2, 2), maximum=st.integers(-2, 2), multipleOf=st.just(2)),
    ),
    lambda inner: objects(inner) | of("array", items=inner, minItems=LENGTH, maxItems=LENGTH),
    max_leaves=5,
)


@settings(max_examples=200)
@given(objects(SCHEMAS), DOCUMENTS)
def test_a_quick_yes_is_always_right(schema: dict[str, Any], document: Any) -> None:
    if compile_quick(schema)(document):
        assert all(dialect.validator(schema).is_valid(document) for dialect in OF_OTHERS)


def test_the_quick_check_says_yes_to_the_plain() -> None:
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1},
            "x": {"type": "number", "minimum": 0, "maximum": 2},
            "kind": {"enum": ["a", "b"]},
        },
        "required": ["n"],
    }
    conforms = compile_quick(schema)
    assert conforms({"n": 1})
    assert conforms({"n": 1, "x": 1.5, "kind": "b"})
    assert conforms({"n": 1, "x": 2})
    assert not conforms({"n": 1, "kind": "c"})
    assert not conforms({"n": 1, "x": 2.5})
    assert not conforms({"n": 0})
    assert not conforms({"n": 1.0})  # an integer to JSON Schema: the full validator says so
