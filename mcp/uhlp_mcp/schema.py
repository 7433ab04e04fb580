"""Small helpers to write a tool's JSON Schemas on one line each."""

from typing import Any

Schema = dict[str, Any]

ANY: Schema = {}
BOOLEAN: Schema = {"type": "boolean"}
INTEGER: Schema = {"type": "integer"}


def text(longest: int, shortest: int = 0, **more: Any) -> Schema:
    """A string of a bounded length in characters."""
    return {"type": "string", "minLength": shortest, "maxLength": longest, **more}


def of(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }
