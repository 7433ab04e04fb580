"""Workflows (specification 6.1), as far as they can be checked without evaluating expressions."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Discriminator, Field, JsonValue, Tag

from uhlp_state.model.base import Flag, Model, Name, any_case

StepId = Name


class StepType(StrEnum):
    """What a step does (specification 6.1.4)."""

    JIT = "jit"
    LLM = "llm"
    MCP = "mcp"
    CONTROL = "control"


class Transition(Model):
    """One way on from a step."""

    condition: str | None = None
    """Taken if this expression is true; always if there is none."""
    next_step: StepId | None = None
    """The step to go to."""
    end: Flag = False
    """True ends the workflow."""


class Transitions(Model):
    """The ways on from a step, by outcome."""

    on_success: StepId | None = None
    """The step after a success."""
    on_failure: tuple[Transition, ...] = ()
    """Conditional steps after a failure, tried in order."""
    on_failure_default: StepId | None = None
    """The step after any other failure."""
    end: Flag = False
    """True ends the workflow."""


def _form(value: Any) -> str:
    return "[list]" if isinstance(value, list | tuple) else "[map]"


class WorkflowStep(Model):
    """One step (specification 6.1.3)."""

    type: Annotated[StepType, *any_case(StepType)]
    """`jit`, `llm`, `mcp` or `control`."""
    description: str = ""
    """For people."""
    subtype: Name | None = None
    """What a `control` step does: `formatResponse`."""
    target: dict[str, JsonValue] = Field(default_factory=dict)
    """What the step calls: `script` and `function`, `promptTemplate` or `prompt`, or `tool`."""
    input_mapping: dict[str, JsonValue] = Field(default_factory=dict)
    """Inputs by name, as expressions."""
    transitions: Annotated[
        Annotated[Transitions, Tag("[map]")] | Annotated[tuple[Transition, ...], Tag("[list]")],
        Discriminator(_form),
    ] = Transitions()
    """Where to go next: by outcome, or a list of conditions tried in order."""

    def next_steps(self) -> list[tuple[tuple[str | int, ...], StepId]]:
        """Every step that this one may go to, with the way to where it says so."""
        if isinstance(self.transitions, tuple):
            found: list[tuple[tuple[str | int, ...], StepId | None]]
            found = [((index, "nextStep"), way.next_step) for index, way in enumerate(self.transitions)]
        else:
            found = [(("onSuccess",), self.transitions.on_success)]
            found += [
                (("onFailure", index, "nextStep"), way.next_step)
                for index, way in enumerate(self.transitions.on_failure)
            ]
            found.append((("onFailureDefault",), self.transitions.on_failure_default))
        return [(("transitions", *path), step) for path, step in found if step is not None]


class WorkflowTrigger(Model):
    """What starts a workflow."""

    type: Name
    """`http`, `trigger`, `callback`, `queue`, `cron` or `internal`."""
    config: dict[str, JsonValue] = Field(default_factory=dict)
    """Depends on the type: `pathPattern` and `method` for `http`."""


class Workflow(Model):
    """A workflow (`state/workflows/*.yaml`). Accepted and checked; this release does not act on it."""

    workflow_id: Name
    """Unique in the app."""
    description: str = ""
    """For people."""
    trigger: WorkflowTrigger
    """What starts it."""
    start_at: StepId
    """The first step."""
    steps: dict[str, WorkflowStep] = Field(min_length=1)
    """Steps by id."""
