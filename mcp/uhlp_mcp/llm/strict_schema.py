"""Which JSON Schemas providers can hold a model to while it writes; others are only checked afterwards."""

from typing import Any

_PLAIN = frozenset(
    {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "description",
        "title",
    }
)
"""Keywords that every provider's strict mode knows."""

MAX_DEPTH = 5
"""Of nesting, which providers bound too."""


def is_strict(schema: Any, depth: int = 0) -> bool:
    """Whether a schema is one that strict modes take: closed objects, all of whose members are required."""
    if not isinstance(schema, dict) or not schema.keys() <= _PLAIN or depth > MAX_DEPTH:
        return False
    if depth == 0 and schema.get("type") != "object":
        return False
    properties = schema.get("properties", {})
    if schema.get("type") == "object" and (
        schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties)
    ):
        return False
    below = [*properties.values(), *([schema["items"]] if "items" in schema else [])]
    return all(is_strict(inner, depth + 1) for inner in below)
