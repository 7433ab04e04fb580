"""From a model's text to a value: parsed in the format asked for, and checked against a schema.

Pure functions without a bound in time: texts, patterns and schemas come from apps, so all but the plainest
run in `check_process`, which can be ended.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from xml.parsers import expat

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from referencing import Registry

from uhlp_mcp.json_values import has_more_values
from uhlp_state.yaml_source import parse_yaml

FORMATS = ("text", "json", "yaml", "xml")

MAX_ERRORS = 5
"""Told of one answer: enough to mend it, in a text that the model reads again."""

MAX_ERROR = 300
"""Characters of one error, which may quote the answer."""

MAX_DEPTH = 64
"""Of nesting, as for YAML: it keeps later walks, and writing it as JSON, far from the recursion limit."""

MAX_VALUES = 65_536
"""Of JSON: more than models write, and few enough to be parsed in this process."""

_FENCE = re.compile(r"```[A-Za-z]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)


class Malformed(ValueError):
    """The text is not in its format; the message says where."""


def check(text: str, form: str, schema: Any = None) -> dict[str, Any]:
    """`{"output": value, "errors": []}`, or the errors that a model can mend its answer by."""
    try:
        output = parse(text, form)
    except Malformed as error:
        return {"output": None, "errors": [str(error)[:MAX_ERROR]]}
    return {"output": output, "errors": [] if schema is None else violations(output, schema)}


def parse(text: str, form: str) -> Any:
    """The value that a text is, in one of FORMATS. Raises Malformed."""
    if form == "text":
        return text
    fenced = _FENCE.fullmatch(text.strip())
    bare = fenced[1] if fenced else text.strip()
    if form == "json":
        return _json(bare)
    if form == "yaml":
        parsed = parse_yaml(bare.encode(errors="replace"))
        if parsed.value is None:
            first = parsed.problems[0]
            raise Malformed(f"not YAML: line {first.line}, column {first.column}: {first.message}")
        return parsed.value.value
    return _XmlReader().read(bare)


def _json(text: str) -> Any:
    if has_more_values(text.encode(errors="replace"), MAX_VALUES):
        raise Malformed(f"JSON of more than {MAX_VALUES} values")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return value
    raise Malformed(f"JSON nested deeper than {MAX_DEPTH}")


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def violations(value: Any, schema: Any) -> list[str]:
    """How a value breaks a schema (draft 2020-12); of alternatives, the nearest."""
    found = []
    for error in _validator(orjson.dumps(schema)).iter_errors(value):
        best = best_match([error]) or error
        found.append(f"{best.json_path}: {best.message}"[:MAX_ERROR])
        if len(found) == MAX_ERRORS:
            break
    return found


@lru_cache(maxsize=64)
def _validator(schema: bytes) -> Validator:
    # A registry of its own, without a way to fetch: references lead nowhere but into the schema.
    return Draft202012Validator(orjson.loads(schema), registry=Registry())


class _XmlReader:
    """Elements become mappings: attributes as `@name`, text as `#text`, repeated elements as lists.

    An element of nothing but text is that text. Document types are refused: entities can only be declared
    there, and they name files, addresses and bombs.
    """

    def __init__(self) -> None:
        self._open: list[tuple[str, dict[str, Any], list[str]]] = []
        self._root: dict[str, Any] = {}

    def read(self, text: str) -> dict[str, Any]:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(text.encode(errors="replace"), True)
        except expat.ExpatError as error:
            message = expat.ErrorString(error.code)
            raise Malformed(f"not XML: line {error.lineno}, column {error.offset + 1}: {message}") from None
        return self._root

    def _refuse(self, *_: object) -> None:
        raise Malformed("not plain XML: leave out the document type")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise Malformed(f"XML nested deeper than {MAX_DEPTH}")
        self._open.append((name, {f"@{key}": value for key, value in attributes.items()}, []))

    def _characters(self, text: str) -> None:
        self._open[-1][2].append(text)

    def _end(self, name: str) -> None:
        _, members, pieces = self._open.pop()
        text = "".join(pieces).strip()
        value: Any = members
        if not members:
            value = text
        elif text:
            members["#text"] = text
        above = self._open[-1][1] if self._open else self._root
        if name not in above:
            above[name] = value
        elif isinstance(above[name], list):
            above[name].append(value)
        else:
            above[name] = [above[name], value]
