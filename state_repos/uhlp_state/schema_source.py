"""JSON Schemas of an app: well-formed, valid (draft 2020-12), and complete in themselves.

A reference to another document would make a schema's meaning depend on something that is not in the commit,
and reading it would be a request of the platform's on behalf of whoever pushed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from uhlp_state.json_places import Mistake, located
from uhlp_state.parse_cache import Parsed
from uhlp_state.problems import MAX_QUOTED, Code, Problem, cut_short, quoted
from uhlp_state.yaml_source import YamlPath

MAX_SCHEMA_VALUES = 10_000
"""Of one schema: checking it takes about a second for this many."""
MAX_TOLD = 200
"""Characters of what is told of one mistake: enough for a rule and what broke it."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def parse_schema(data: bytes) -> Parsed[Any]:
    """Read a JSON Schema file. Never raises."""
    try:
        schema = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        remedy = "correct the JSON here"
        return Parsed(None, (Problem("", error.lineno, error.colno, Code.JSON_SYNTAX, error.msg, remedy),))
    problems = located(data, schema_mistakes(schema))
    return Parsed(None if problems else schema, problems)


def schema_mistakes(schema: Any) -> list[Mistake]:
    """What is wrong with a schema. Never raises."""
    if _is_large(schema):
        message = f"the schema holds more than {MAX_SCHEMA_VALUES} values"
        return [((), Code.SCHEMA_INVALID, message, "split it, or check less")]
    try:
        Draft202012Validator.check_schema(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        return _dialect_mistakes(schema) or _reference_mistakes(schema)
    except SchemaError as error:
        message = f"this is not JSON Schema: {told(error)}"
        return [(tuple(error.absolute_path), Code.SCHEMA_INVALID, message, "correct the schema here")]
    except RecursionError:
        return [((), Code.SCHEMA_INVALID, "the schema is nested too deep", "simplify it")]
    except ValueError:
        # From the resolution of an `$id`: the checker does not look at how a URI is made up.
        return [
            ((), Code.SCHEMA_INVALID, "an `$id` in the schema is not a URI", "correct it, or leave it out")
        ]


def told(error: SchemaError | ValidationError) -> str:
    """The rule that is broken and by what, with values cut short."""
    value, message = repr(error.instance), error.message
    if message.startswith(value):
        is_text = isinstance(error.instance, str)
        short = quoted(error.instance) if is_text else cut_short(value, MAX_QUOTED)
        message = short + message.removeprefix(value)
    return cut_short(message, MAX_TOLD)


def _is_large(schema: Any) -> bool:
    pending, count = [schema], 0
    while pending:
        value = pending.pop()
        count += 1
        if count > MAX_SCHEMA_VALUES:
            return True
        if isinstance(value, dict | list):
            pending.extend(value.values() if isinstance(value, dict) else value)
    return False


def _dialect_mistakes(schema: Any) -> list[Mistake]:
    dialect = schema.get("$schema", _DIALECT) if isinstance(schema, dict) else _DIALECT
    if dialect.removesuffix("#") == _DIALECT:
        return []
    message = f"the dialect {quoted(dialect)} is not read"
    return [(("$schema",), Code.SCHEMA_INVALID, message, f"write {_DIALECT}, or leave $schema out")]


def _reference_mistakes(schema: Any) -> list[Mistake]:
    """References that do not stay within the schema. A registry without a retriever reads nothing."""
    root = DRAFT202012.create_resource(schema)
    mistakes: list[Mistake] = []
    pending = [(root, Registry().with_resource(root.id() or "", root).resolver_with_root(root))]
    while pending:
        resource, resolver = pending.pop()
        contents = resource.contents
        for keyword in ("$ref", "$dynamicRef"):
            target = contents.get(keyword) if isinstance(contents, dict) else None
            if target is None or _resolves(resolver.lookup, target):
                continue
            message = f"{quoted(target)} is not a schema within this one"
            remedy = "put what is referred to under `$defs` of the same schema, and refer to `#/$defs/<name>`"
            mistakes.append((_path_to(schema, contents, keyword), Code.SCHEMA_REFERENCE, message, remedy))
        pending.extend((below, resolver.in_subresource(below)) for below in resource.subresources())
    return mistakes


def _resolves(lookup: Callable[[str], Any], target: str) -> bool:
    if not target.startswith("#"):
        return False
    try:
        return isinstance(lookup(target).contents, dict | bool)
    except (Unresolvable, ValueError, LookupError, TypeError):
        # The last three come from pointers that step into a list or a text by name.
        return False


def _path_to(schema: Any, wanted: Any, keyword: str) -> YamlPath:
    """The way to `wanted`, an object inside `schema`, by identity."""
    pending: list[tuple[YamlPath, Any]] = [((), schema)]
    while pending:
        path, value = pending.pop()
        if value is wanted:
            return (*path, keyword)
        if isinstance(value, dict):
            pending.extend(((*path, key), below) for key, below in value.items())
        elif isinstance(value, list):
            pending.extend(((*path, index), below) for index, below in enumerate(value))
    return ()
