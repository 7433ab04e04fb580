"""JSON Schemas in the form that providers can hold a model to while it writes.

Providers know a part of JSON Schema: closed objects, choices, references without a loop. The form keeps that
part, and tells the rest in descriptions, which the model reads. So an answer of this form may still break the
schema itself, which every answer is checked against. What the form must not do is shut out values that the
schema gives names to: where it would, there is none, and the model is told of the schema in words only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any

import orjson

MAX_DEPTH = 5
"""Of nesting, which providers bound too."""

MAX_BYTES = 64 * 1024
"""Of a schema. Providers take no much larger ones, and forms are kept in memory."""

KEPT_FORMS = 128

_KEPT = ("enum", "const", "description", "title")
_DROPPED = frozenset({"$schema", "$comment", "$defs", "definitions"})
"""What says nothing about values, and definitions, which are formed by themselves."""

_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"},
)
"""Of texts, that every provider knows."""

_STRUCTURE = frozenset({"properties", "required", "items", "additionalProperties", "anyOf", "oneOf", "$ref"})
_UNFIT = frozenset(
    {
        "$dynamicRef",
        "$id",
        "allOf",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "minProperties",
        "patternProperties",
        "prefixItems",
        "then",
    }
)
"""What can ask for members or items that a closed object or a plain list would shut out, or changes what
references mean."""

_DEFINITIONS = "#/$defs/"


@dataclass(frozen=True, slots=True)
class StrictForm:
    """A schema as providers take it."""

    schema: dict[str, Any]
    """Shared: not to be changed."""
    requires_all: bool
    """Whether every member of every object is required, as OpenAI's strict mode wants. Making them so would
    change the meaning: an answer could leave none out any more."""
    size: int
    """Bytes of the schema as JSON."""


def strict_form(schema: Mapping[str, Any]) -> StrictForm | None:
    """The form of a schema, or None where it has none. Made once for each schema."""
    encoded = orjson.dumps(schema)
    return _made(encoded) if len(encoded) <= MAX_BYTES else None


@lru_cache(maxsize=KEPT_FORMS)
def _made(encoded: bytes) -> StrictForm | None:
    maker = _Maker()
    try:
        form = maker.whole(orjson.loads(encoded))
    except (_Unfit, CycleError):
        return None
    return StrictForm(form, maker.requires_all, len(orjson.dumps(form)))


class _Unfit(Exception):
    """The form would shut out what the schema means."""


@dataclass(slots=True)
class _Maker:
    """Makes the form of one schema."""

    requires_all: bool = True
    _refers: set[str] = field(default_factory=set)
    """Definitions that were referred to since this was last emptied."""

    def whole(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Raises _Unfit, and CycleError for definitions that refer to themselves."""
        if schema.get("type") != "object":
            raise _Unfit
        form = self._form({name: value for name, value in schema.items() if name != "$id"}, 0)
        wanted, forms, graph = self._refers, {}, {}
        for name, definition in schema.get("$defs", {}).items():
            self._refers = set()
            forms[name] = self._form(definition, 1)
            graph[name] = self._refers
        if not wanted.union(*graph.values()) <= forms.keys():
            raise _Unfit
        TopologicalSorter(graph).prepare()
        return {**form, "$defs": forms} if forms else form

    def _form(self, schema: Any, depth: int) -> dict[str, Any]:
        if not isinstance(schema, dict) or depth > MAX_DEPTH or not schema.keys().isdisjoint(_UNFIT):
            raise _Unfit
        rest = {name: value for name, value in schema.items() if name not in _DROPPED}
        form = {name: rest.pop(name) for name in _KEPT if name in rest}
        if not _is_plain([*form.get("enum", ()), form.get("const")]):
            raise _Unfit
        if "$ref" in rest:
            return self._reference(rest)
        variants = rest.keys() & {"anyOf", "oneOf"}
        kinds = rest.get("type")
        if variants:
            self._variants(rest, min(variants), form, depth)
        elif isinstance(kinds, str):
            self._typed(rest, form, depth)
        elif form.keys() & {"enum", "const"}:
            rest = {}  # The values are there; what else is said of them is of no use to a provider.
        elif kinds:
            form["anyOf"] = [self._form({**rest, "type": kind}, depth) for kind in kinds]
            rest = {}
        else:
            raise _Unfit  # Anything goes, which no provider can be told.
        if rest:
            own = [form["description"]] if "description" in form else []
            form["description"] = "\n\n".join([*own, orjson.dumps(rest).decode()])
        return form

    def _reference(self, rest: dict[str, Any]) -> dict[str, Any]:
        target = rest.pop("$ref")
        if not isinstance(target, str) or not target.startswith(_DEFINITIONS) or rest.keys() & _STRUCTURE:
            raise _Unfit
        self._refers.add(target.removeprefix(_DEFINITIONS))
        return {"$ref": target}  # Providers take nothing beside it.

    def _variants(self, rest: dict[str, Any], keyword: str, form: dict[str, Any], depth: int) -> None:
        variants = rest.pop(keyword)
        if depth == 0 or rest.keys() & (_STRUCTURE | {"type"}):
            raise _Unfit  # Closed, each variant would shut out the members that stand beside it.
        form["anyOf"] = [self._form(variant, depth + 1) for variant in variants]

    def _typed(self, rest: dict[str, Any], form: dict[str, Any], depth: int) -> None:
        kind = form["type"] = rest.pop("type")
        if kind == "object":
            self._object(rest, form, depth)
        elif kind == "array":
            form["items"] = self._form(rest.pop("items", None), depth + 1)
        elif kind == "string" and rest.get("format") in _FORMATS:
            form["format"] = rest.pop("format")
        for name in _STRUCTURE & rest.keys():
            del rest[name]  # It is of other types.

    def _object(self, rest: dict[str, Any], form: dict[str, Any], depth: int) -> None:
        members, required = rest.pop("properties", {}), rest.pop("required", [])
        further = rest.pop("additionalProperties", None)
        # Where further members are asked for, or no member has a name, a closed object could not hold them.
        is_open = further is not False and (further is not None or not members)
        if is_open or not members.keys() >= set(required):
            raise _Unfit
        form["properties"] = {name: self._form(member, depth + 1) for name, member in members.items()}
        form["required"] = required
        form["additionalProperties"] = False
        self.requires_all &= set(required) == members.keys()


def _is_plain(values: list[Any]) -> bool:
    return not any(isinstance(value, dict | list) for value in values)
