"""From a parsed document to a class of the model, with every mistake as a `Problem` at its place."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from uhlp_state.model.base import KEY, Model
from uhlp_state.model.patterns import REMEDIES
from uhlp_state.parse_cache import Parsed
from uhlp_state.problems import Code, Problem, did_you_mean, quoted
from uhlp_state.yaml_source import MAX_FINDINGS, Document, YamlPath, parse_yaml

M = TypeVar("M", bound=Model)

_TYPES = {
    "string_type": ("a string", "put the value in quotes"),
    "int_type": ("a whole number", "write a whole number without quotes"),
    "float_type": ("a number", "write a number without quotes"),
    "bool_type": ("true or false", "write true or false, without quotes"),
    "dict_type": ("a mapping", "write `key: value` lines below it"),
    "model_type": ("a mapping", "write `key: value` lines below it"),
    "tuple_type": ("a list", "write one `- item` line per item below it"),
}
"""Pydantic's errors about types: what was expected, and the remedy."""
_OF_KEY = "[key]"
"""Where a path of pydantic's ends that leads to a key of a mapping, not to its value."""


@dataclass(frozen=True, slots=True)
class Decoded(Generic[M]):
    """An instance of the model and the document that it was read from."""

    model: M
    document: Document


def parse_model(kind: type[M], data: bytes) -> Parsed[Decoded[M]]:
    """Read a YAML file as `kind`."""
    parsed = parse_yaml(data)
    if parsed.value is None:
        return Parsed(None, parsed.problems)
    return decode(kind, parsed.value)


def decode(kind: type[M], document: Document) -> Parsed[Decoded[M]]:
    """Read a parsed document as `kind`."""
    try:
        model = kind.model_validate(document.value, by_alias=True, by_name=False)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_problem(kind, document, detail) for detail in details[:MAX_FINDINGS]]
        if len(details) > MAX_FINDINGS:
            message = f"{len(details)} problems, of which the first {MAX_FINDINGS} are listed"
            problems.append(document.problem((), Code.TOO_MANY_PROBLEMS, message, "mend those first"))
        return Parsed(None, tuple(problems))
    return Parsed(Decoded(model, document))


def _problem(kind: type[Model], document: Document, detail: ErrorDetails) -> Problem:
    path: YamlPath = detail["loc"]
    context = detail.get("ctx", {})
    if detail["type"] in Code.__members__:
        message = context["message"].replace(KEY, _spoken(path))
        return document.problem(path, Code[detail["type"]], message, context["remedy"])
    if detail["type"] == "extra_forbidden":
        known = sorted(_keys(kind, path[:-1]))
        remedy = did_you_mean(str(path[-1]), known, f"use one of {', '.join(known)}")
        message = f"unknown key {quoted(path[-1])}"
        return document.problem(path, Code.UNKNOWN_KEY, message, remedy, key=True)
    if detail["type"] == "missing":
        message = f"the key {quoted(path[-1])} is missing"
        return document.problem(path, Code.MISSING_KEY, message, f"add it. {_how_to_fill(kind, path)}")
    if expected := _TYPES.get(detail["type"]):
        message = f"{_spoken(path)} must be {expected[0]}, got {_type_name(detail['input'])}"
        how = _how_to_wrap(kind, path, detail["input"]) if detail["type"] == "model_type" else None
        return document.problem(path, Code.WRONG_TYPE, message, how or expected[1])
    message = f"{_spoken(path)}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
    remedy = REMEDIES.get(context.get("pattern", "")) or _how_to_fill(kind, path)
    return document.problem(path, Code.BAD_VALUE, message, remedy, key=path[-1:] == (_OF_KEY,))


def _spoken(path: YamlPath) -> str:
    # What is in brackets is pydantic's note of the alternative that it took, not a key.
    steps = [part for part in path if not (isinstance(part, str) and part.startswith("["))]
    named = [part for part in steps if isinstance(part, str)]
    if not named:
        return "the file"
    *outer, last = named
    if path[-1] == _OF_KEY:
        return f"the name {quoted(last)}" + (f" in {quoted(outer[-1])}" if outer else "")
    return f"an item of {quoted(last)}" if isinstance(steps[-1], int) else quoted(last)


def _type_name(value: object) -> str:
    if value is None:
        return "nothing"
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a mapping",
    }
    return names.get(type(value), type(value).__name__)


def _how_to_wrap(kind: type[Model], path: YamlPath, value: object) -> str | None:
    """What to write around a value that stands where a mapping should, if there is only one way."""
    for model in _models(kind, path):
        fields = model.model_fields.values()
        if isinstance(value, list):
            lists = [field.alias for field in fields if _is_list_of_mappings(field.annotation)]
            fits = len(lists) == 1 and all(isinstance(item, dict) for item in value)
            return f"write `{lists[0]}:` above the list and indent it" if fits else None
        required = [field for field in fields if field.is_required()]
        if required and path and isinstance(path[-1], int):
            example = (required[0].examples or ["…"])[0]
            others = ", and its other keys below" if len(required) > 1 else ""
            return f"write `- {required[0].alias}: {example}`{others}"
    return None


def _is_list_of_mappings(annotation: Any) -> bool:
    return any(
        isinstance(item, type) and issubclass(item, Model)
        for kind in _alternatives(annotation)
        if get_origin(kind) is tuple
        for item in _alternatives(get_args(kind)[0])
    )


def _how_to_fill(kind: type[Model], path: YamlPath) -> str:
    for model in _models(kind, path[:-1]):
        for field in model.model_fields.values():
            if field.alias == path[-1] and field.description:
                return f"{field.alias}: {' '.join(field.description.split())}"
    if path[-1] == _OF_KEY:
        return "write another name"
    return f"give {_spoken(path)} a value that it takes"


def _keys(kind: type[Model], path: YamlPath) -> set[str]:
    return {
        field.alias for model in _models(kind, path) for field in model.model_fields.values() if field.alias
    }


def _models(kind: type[Model], path: YamlPath) -> list[type[Model]]:
    """The classes that may stand at `path`; steps that pydantic adds for its own use are passed over."""
    here: list[Any] = [kind]
    for step in path:
        below = [inner for outer in here for inner in _step_into(outer, step)]
        here = below or here
    return [cls for cls in here if isinstance(cls, type) and issubclass(cls, Model)]


def _step_into(outer: Any, step: str | int) -> Iterator[Any]:
    if isinstance(outer, type) and issubclass(outer, Model):
        for field in outer.model_fields.values():
            if field.alias == step:
                yield from _alternatives(field.annotation)
    elif get_origin(outer) is tuple and isinstance(step, int):
        yield from _alternatives(get_args(outer)[0])
    elif get_origin(outer) is dict:
        yield from _alternatives(get_args(outer)[1])


def _alternatives(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _alternatives(member)
    else:
        yield annotation
