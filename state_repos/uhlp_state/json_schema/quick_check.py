"""A fast yes to values that conform to a plain JSON Schema; the rest is for a full validator to judge.

Full validation in Python takes a fifth of a tool call's time. What compiled code accepts here, under stricter
rules than JSON Schema's, conforms for sure; what it refuses may still conform (1.0 is an integer).
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

_MAX_EXACT = 2**53
"""From here on, numbers that are turned into floating point may come out as others."""

_ANNOTATIONS = frozenset({"type", "title", "description", "default", "examples", "$schema"})


class _NotPlain(Exception):
    """The schema says something that is not translated."""


def compile_quick(schema: Mapping[str, Any] | bool) -> Callable[[Any], bool]:
    """A function that is true only for documents that conform to `schema`."""
    try:
        validator = SchemaValidator(_translated(schema))
    except (_NotPlain, SchemaError):
        return _never

    def conforms(document: Any) -> bool:
        try:
            validator.validate_python(document, strict=True)
        except ValidationError:
            return False
        return True

    return conforms


def _never(document: Any) -> bool:
    return False


def _translated(schema: Any) -> Any:
    """The same, or something stricter, in the compiled validator's terms. Raises _NotPlain."""
    if schema is True or schema == {}:
        return core_schema.any_schema()
    if not isinstance(schema, Mapping):
        raise _NotPlain
    if schema.keys() - _ANNOTATIONS == {"enum"} and schema.get("type") in (None, "string"):
        return _enum(schema["enum"])
    kind = schema.get("type")
    known = {
        "string": _string,
        "integer": _integer,
        "number": _number,
        "boolean": _boolean,
        "object": _object,
        "array": _array,
    }
    if not isinstance(kind, str) or kind not in known:
        raise _NotPlain
    return known[kind](schema)


def _limits(schema: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """The keywords by their new names; raises _NotPlain if there are others."""
    said = schema.keys() - _ANNOTATIONS
    if said - names.keys():
        raise _NotPlain
    return {names[keyword]: schema[keyword] for keyword in said}


def _string(schema: Mapping[str, Any]) -> Any:
    return core_schema.str_schema(**_limits(schema, minLength="min_length", maxLength="max_length"))


def _integer(schema: Mapping[str, Any]) -> Any:
    return core_schema.int_schema(**_limits(schema, minimum="ge", maximum="le"))


def _number(schema: Mapping[str, Any]) -> Any:
    limits = _limits(schema, minimum="ge", maximum="le")
    if any(abs(limit) >= _MAX_EXACT for limit in limits.values()):
        raise _NotPlain
    return core_schema.float_schema(**limits)


def _enum(values: Any) -> Any:
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise _NotPlain  # Python takes 1, 1.0 and true for the same.
    return core_schema.literal_schema(list(values))


def _boolean(schema: Mapping[str, Any]) -> Any:
    return core_schema.bool_schema(**_limits(schema))


def _array(schema: Mapping[str, Any]) -> Any:
    limits = _limits(schema, items="items", minItems="min_length", maxItems="max_length")
    return core_schema.list_schema(_translated(limits.pop("items", True)), **limits)


def _object(schema: Mapping[str, Any]) -> Any:
    said = _limits(schema, properties="fields", required="required", additionalProperties="extra")
    extra = said.get("extra", True)
    if not isinstance(extra, bool):
        raise _NotPlain
    required = frozenset(said.get("required", ()))
    fields = said.get("fields", {})
    if required - fields.keys():
        raise _NotPlain
    return core_schema.typed_dict_schema(
        {
            name: core_schema.typed_dict_field(_translated(one), required=name in required)
            for name, one in fields.items()
        },
        extra_behavior="ignore" if extra else "forbid",
    )
