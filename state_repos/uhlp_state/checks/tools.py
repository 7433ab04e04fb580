"""Tools of the app: names that clients can tell apart, valid schemas, and components that exist."""

from __future__ import annotations

from collections.abc import Collection

from uhlp_state.checks.parts import Files, Part
from uhlp_state.model import ToolDefinition
from uhlp_state.model.tools import MAX_TOOL_NAME
from uhlp_state.problems import Code, did_you_mean, quoted
from uhlp_state.schema_source import schema_mistakes

TOOLS = "state/tools/"


def check_tools(files: Files, components: Collection[str] | None) -> tuple[ToolDefinition, ...]:
    """Check every tool file; those that can be read. `components` is None where they could not be read."""
    found = []
    taken: dict[str, Part[ToolDefinition]] = {}
    for path in files.under(TOOLS, ".yaml"):
        part = files.model(path, ToolDefinition)
        if part is None:
            continue
        found.append(part.model)
        _check_name(files, part, taken)
        _check_schemas(files, part)
        component = part.model.component
        if components is not None and component not in components:
            message = f"there is no component {quoted(component)}"
            remedy = did_you_mean(component, components, "add it to component_registry.yaml")
            files.problems.append(part.problem(("component",), Code.UNKNOWN_COMPONENT, message, remedy))
    return tuple(sorted(found, key=lambda tool: tool.full_name))


def _check_name(files: Files, part: Part[ToolDefinition], taken: dict[str, Part[ToolDefinition]]) -> None:
    name = part.model.full_name
    if len(name) > MAX_TOOL_NAME:
        message = f"the name {quoted(name)} has {len(name)} characters, more than {MAX_TOOL_NAME}"
        files.problems.append(part.problem(("name",), Code.BAD_VALUE, message, "shorten it"))
    # Clients that refuse dots see `__` in their place (`app__notes__add`): that must mean one tool, too.
    other = taken.setdefault(name.replace(".", "__"), part)
    if other is not part:
        same = "already that" if other.model.full_name == name else "not to be told apart from that"
        message = f"the name {quoted(name)} is {same} of {other.file} (a dot counts as __)"
        remedy = "give each tool a name of its own"
        files.problems.append(part.problem(("name",), Code.DUPLICATE_TOOL, message, remedy))


def _check_schemas(files: Files, part: Part[ToolDefinition]) -> None:
    for key, schema in part.model.schemas().items():
        mistakes = schema_mistakes(schema)
        files.problems.extend(
            part.problem((key, *place), code, message, remedy) for place, code, message, remedy in mistakes
        )
        if not mistakes and schema.get("type") != "object":
            message = f"the {key} of a tool must be of type object"
            files.problems.append(part.problem((key,), Code.BAD_VALUE, message, "write `type: object`"))
