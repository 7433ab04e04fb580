"""JSON Schemas of an app: well-formed, valid in a dialect that is read, and complete in themselves.

A reference to another document would make a schema's meaning depend on something that is not in the commit,
and reading it would be a request of the platform's on behalf of whoever pushed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import orjson
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from uhlp_state.json_places import Mistake, located
from uhlp_state.json_schema.dialects import DRAFT_2020_12, Dialect, dialect_of
from uhlp_state.parse_cache import Parsed
from uhlp_state.problems import MAX_QUOTED, Code, Problem, cut_short, quoted
from uhlp_state.yaml_source import YamlPath

MAX_SCHEMA_VALUES = 10_000
"""Of one schema: checking it takes about a second for this many."""
MAX_TOLD = 200
"""Characters of what is told of one mistake: enough for a rule and what broke it."""


def parse_schema(data: bytes) -> Parsed[Any]:
    """Read a JSON Schema file. Never raises."""
    try:
        schema = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        remedy = "correct the JSON here"
        return Parsed(None, (Problem("", error.lineno, error.colno, Code.JSON_SYNTAX, error.msg, remedy),))
    problems = located(data, schema_mistakes(schema))
    return Parsed(None if problems else schema, problems)


def schema_mistakes(schema: Any, dialects: Collection[Dialect] = (DRAFT_2020_12,)) -> list[Mistake]:
    """What is wrong with a schema, which may be written in one of `dialects`. Never raises."""
    if _is_large(schema):
        message = f"the schema holds more than {MAX_SCHEMA_VALUES} values"
        return [((), Code.SCHEMA_INVALID, message, "split it, or check less")]
    try:
        dialect_of(schema).validator.check_schema(schema)
        return _dialect_mistakes(schema, dialects) or _inner_mistakes(schema)
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


def _dialect_mistakes(schema: Any, dialects: Collection[Dialect]) -> list[Mistake]:
    named = schema.get("$schema", DRAFT_2020_12.uri) if isinstance(schema, dict) else DRAFT_2020_12.uri
    if named.removesuffix("#") in {dialect.uri for dialect in dialects}:
        return []
    message = f"the dialect {quoted(named)} is not read"
    known = " or ".join(dialect.uri for dialect in dialects)
    return [(("$schema",), Code.SCHEMA_INVALID, message, f"write {known}, or leave $schema out")]


def _inner_mistakes(schema: Any) -> list[Mistake]:
    """References that do not stay within the schema, and parts of it in another dialect than the whole.

    A registry without a retriever reads nothing.
    """
    if not isinstance(schema, dict):
        return []
    dialect = dialect_of(schema)
    root = dialect.specification.create_resource(schema)
    mistakes: list[Mistake] = []
    pending = [(root, Registry().with_resource(root.id() or "", root).resolver_with_root(root))]
    while pending:
        resource, resolver = pending.pop()
        contents = resource.contents
        if contents.get("$schema", dialect.uri).removesuffix("#") != dialect.uri:
            message = "a part of the schema is in another dialect than the whole"
            remedy = "leave $schema out here"
            place = _path_to(schema, contents, "$schema")
            mistakes.append((place, Code.SCHEMA_INVALID, message, remedy))
            continue
        for keyword in dialect.references:
            target = contents.get(keyword)
            if target is None or _resolves(resolver.lookup, target):
                continue
            message = f"{quoted(target)} is not a schema within this one"
            remedy = "put what is referred to under `$defs` of the same schema, and refer to `#/$defs/<name>`"
            mistakes.append((_path_to(schema, contents, keyword), Code.SCHEMA_REFERENCE, message, remedy))
        for part in dialect.specification.subresources_of(contents):
            # Neither `true`, nor the lists of names that are among draft-07's `dependencies`.
            if isinstance(part, dict):
                below = dialect.specification.create_resource(part)
                pending.append((below, resolver.in_subresource(below)))
    return mistakes


def _resolves(lookup: Callable[[str], Any], target: str) -> bool:
    if not target.startswith("#"):
        return False
    try:
        return isinstance(lookup(target).contents, dict | bool)
    except (Unresolvable, ValueError, LookupError, TypeError, AttributeError):
        # All but the first come from pointers that step into a list or a text by name, the last one from a
        # search for an anchor that comes upon a list among draft-07's `dependencies`.
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
