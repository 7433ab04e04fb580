"""Prompts, and that the components which use them give them the variables they need (specification 8.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uhlp_state.checks.parts import Files, Part
from uhlp_state.checks.references import PROMPTS, SCHEMAS, STATE
from uhlp_state.model import AppDefinition, ComponentDefinition, ComponentRegistry, HandlerType
from uhlp_state.problems import Code, Problem, did_you_mean, quoted
from uhlp_state.prompt_source import UsePlace
from uhlp_state.snapshot import merged_configuration
from uhlp_state.template_uses import Path

Known = Mapping[str, "Known"] | None
"""The keys of a mapping and what is known below each; None where it may be anything."""

CONTEXT = ("appId", "componentId", "deployment")
"""What `uhlp_runner.prompts` tells."""

HTTP_DETAILS = (
    "method", "path", "routePattern", "pathParameters", "queryParameters", "headers", "body", "bodyEncoding",
    "json",
)  # fmt: skip
"""What `uhlp_gateway.request_data` tells; `json` is the runner's."""

BODY: Path = ("httpDetails", "json")
"""The same as `input`, for a request from outside."""

_REMEDIES = {
    "input": "add it to the component's requestSchema, or ask first: `is defined` or `default()`",
    "config": "add it to `configuration`, or ask first: `is defined` or `default()`",
    "context": f"it has {', '.join(CONTEXT)}",
    "httpDetails": f"it has {', '.join(HTTP_DETAILS)}",
}
"""For a member that there is not, by variable."""


def check_prompts(files: Files) -> None:
    """Check every prompt file."""
    for path in files.under(PROMPTS, ".yaml"):
        files.prompt(path)


def check_component_prompts(
    files: Files, registry: Part[ComponentRegistry], definition: Part[AppDefinition] | None
) -> None:
    """The prompts of LLM components use nothing but what such a component has."""
    told: set[tuple[str, Path]] = set()
    for component in registry.model.components:
        path = STATE + component.task_details.get("prompt_template", "")
        source = files.prompt(path) if component.handler_type is HandlerType.LLM and path in files else None
        if source is None:
            continue
        known = _variables(files, component, definition)
        for place in source.uses:
            missing = _missing(place.use.path, known)
            if missing is None or (path, missing) in told:
                continue
            # A place that is only reached where something is there that cannot be is never rendered.
            if not any(_missing(asked, known) for asked in place.use.made_sure):
                told.add((path, missing))
                files.problems.append(_problem(path, place, missing, known, component))


def _variables(
    files: Files, component: ComponentDefinition, definition: Part[AppDefinition] | None
) -> dict[str, Known]:
    """What the prompt of an LLM component is given; `uhlp_runner.prompts` fills it."""
    schema = STATE + (component.request_schema or "")
    body = _members(files.schema(schema)) if schema in files.under(SCHEMAS, ".json") else None
    configuration = (
        merged_configuration(definition.model.configuration, component.configuration_overrides)
        if definition
        else None
    )
    return {
        "input": body,
        "httpDetails": {**dict.fromkeys(HTTP_DETAILS), "json": body},
        "config": _keys(configuration),
        "context": dict.fromkeys(CONTEXT),
    }


def _keys(value: Any) -> Known:
    return {key: _keys(below) for key, below in value.items()} if isinstance(value, dict) else None


def _members(schema: Any) -> Known:
    """What a value that fits can have at most, where the schema says so itself."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return None
    if schema.get("additionalProperties") is not False or "patternProperties" in schema:
        return None
    return {key: _members(below) for key, below in schema.get("properties", {}).items()}


def _missing(path: Path, known: Known) -> Path | None:
    """As much of the path as leads to the first name that there is not; None if all of it may be there."""
    for place, name in enumerate(path):
        if known is None:
            return None
        if name not in known:
            # Every mapping has methods: `config.items()`.
            return None if place and hasattr(dict, name) else path[: place + 1]
        known = known[name]
    return None


def _problem(
    file: str, place: UsePlace, missing: Path, variables: Mapping[str, Known], component: ComponentDefinition
) -> Problem:
    name = missing[-1]
    if len(missing) == 1:
        message = f"an LLM component has no variable {quoted(name)}"
        otherwise = f"write `input.{name[:60]}` for a member of the request's JSON body"
    else:
        message = f"the component {quoted(component.component_id)} has no {quoted('.'.join(missing))}"
        otherwise = _REMEDIES["input" if missing[:2] == BODY else missing[0]]
    near: Known = variables
    for key in missing[:-1]:
        near = (near or {})[key]
    remedy = did_you_mean(name, near or (), otherwise)
    return Problem(file, place.line, place.column, Code.TEMPLATE_UNKNOWN_NAME, message, remedy)
