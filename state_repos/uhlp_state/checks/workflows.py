"""Workflows: unique ids, and steps that point to what exists (specification 6.1)."""

from __future__ import annotations

from uhlp_state.checks.parts import Files, Part
from uhlp_state.checks.references import check_function, check_language, check_prompt
from uhlp_state.model import StepType, Workflow, WorkflowStep
from uhlp_state.problems import Code, did_you_mean, quoted
from uhlp_state.yaml_source import YamlPath

WORKFLOWS = "state/workflows/"

_TARGET_KEYS: dict[StepType, tuple[tuple[str, ...], ...]] = {
    StepType.JIT: (("script",), ("function",)),
    StepType.LLM: (("promptTemplate", "prompt"),),
    StepType.MCP: (("tool",),),
    StepType.CONTROL: (),
}
"""Keys that a target must have, by type; of each group one (specification 6.1.4)."""


def check_workflows(files: Files) -> set[str]:
    """Check every workflow file; the ids of those that can be read."""
    first: dict[str, str] = {}
    for path in files.under(WORKFLOWS, ".yaml"):
        part = files.model(path, Workflow)
        if part is None:
            continue
        _check_steps(files, part)
        name = part.model.workflow_id
        if name in first:
            message = f"the workflowId {quoted(name)} is already that of {first[name]}"
            remedy = "give each workflow its own id"
            files.problems.append(part.problem(("workflowId",), Code.DUPLICATE_WORKFLOW, message, remedy))
        first.setdefault(name, path)
    return set(first)


def _check_steps(files: Files, part: Part[Workflow]) -> None:
    workflow = part.model
    targets: list[tuple[YamlPath, str]] = [(("startAt",), workflow.start_at)]
    for step_id, step in workflow.steps.items():
        targets += [(("steps", step_id, *path), target) for path, target in step.next_steps()]
        _check_target(files, part, ("steps", step_id, "target"), step)
    for place, target in targets:
        if target not in workflow.steps:
            remedy = did_you_mean(target, workflow.steps, "add the step, or correct the name")
            message = f"there is no step {quoted(target)}"
            files.problems.append(part.problem(place, Code.UNKNOWN_STEP, message, remedy))


def _check_target(files: Files, part: Part[Workflow], at: YamlPath, step: WorkflowStep) -> None:
    """A step's target must have the keys of its type, and name what exists."""
    present = step.target.keys()
    for alternatives in _TARGET_KEYS[step.type]:
        if present.isdisjoint(alternatives):
            wanted = " or ".join(quoted(key) for key in alternatives)
            message = f"the target of a step of type {step.type} has no {wanted}"
            remedy = f"add `{alternatives[0]}: …`"
            files.problems.append(part.problem(at, Code.MISSING_KEY, message, remedy))
    script, function, prompt = (step.target.get(key) for key in ("script", "function", "promptTemplate"))
    if step.type is StepType.JIT and isinstance(script, str) and isinstance(function, str):
        check_function(files, part, at, script, function, check_language(files, part, at, step.target))
    elif step.type is StepType.LLM and isinstance(prompt, str):
        check_prompt(files, part, (*at, "promptTemplate"), prompt)
