"""Prompts, and that the components which use them give them the variables they need (specification 8.1)."""

from __future__ import annotations

from uhlp_state.checks.parts import Files, Part
from uhlp_state.checks.references import PROMPTS, STATE
from uhlp_state.model import ComponentRegistry, HandlerType
from uhlp_state.problems import Code, Problem, did_you_mean, quoted

COMPONENT_VARIABLES = ("input", "httpDetails", "config", "context")
"""What the prompt of an LLM component is given; `uhlp_runner.prompts` fills them."""


def check_prompts(files: Files) -> None:
    """Check every prompt file."""
    for path in files.under(PROMPTS, ".yaml"):
        files.prompt(path)


def check_component_prompts(files: Files, registry: Part[ComponentRegistry]) -> None:
    """The prompts of LLM components use no variable but those that such a component has."""
    used = {
        STATE + component.task_details.get("prompt_template", "")
        for component in registry.model.components
        if component.handler_type is HandlerType.LLM
    }
    for path in sorted(used):
        source = files.prompt(path) if path in files else None
        for variable in source.variables if source else ():
            if variable.name not in COMPONENT_VARIABLES:
                message = f"an LLM component has no variable {quoted(variable.name)}"
                otherwise = f"write `input.{variable.name[:60]}` for a member of the request's JSON body"
                remedy = did_you_mean(variable.name, COMPONENT_VARIABLES, otherwise)
                files.problems.append(
                    Problem(path, variable.line, variable.column, Code.TEMPLATE_UNKNOWN_NAME, message, remedy)
                )
