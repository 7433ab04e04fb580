"""When a component should be optimised (specification 3.1.2 and 3.6, OptimizationConfig)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue

from uhlp_state.model.base import Flag, Model, any_case


class OptimizationAction(StrEnum):
    """What a rule asks for."""

    TRIGGER_JIT = "TRIGGER_JIT"
    RECOMMEND_JIT = "RECOMMEND_JIT"


class MetricCondition(Model):
    """A condition on metrics."""

    expression: str = Field(min_length=1, max_length=1000)
    """E.g. `avg(latency_ms) > 1000 && count(requests) > 600`."""


class OptimizationRule(Model):
    """One rule."""

    description: str = ""
    """For people."""
    condition: MetricCondition
    """When the rule holds."""
    action: Annotated[OptimizationAction, *any_case(OptimizationAction, "ACTION_")]
    """`TRIGGER_JIT` or `RECOMMEND_JIT`."""
    action_params: dict[str, JsonValue] = Field(default_factory=dict)
    """Parameters of the action."""
    prefer_llm_flexibility: Flag = False
    """True keeps the component with the LLM; the rule then only recommends. Default false."""


class OptimizationConfig(Model):
    """Rules of optimisation (`state/optimization_config.yaml`).
    Accepted and checked; this release does not act on it."""

    enabled: Flag = False
    """Default false."""
    rules: tuple[OptimizationRule, ...] = ()
    """The rules, in order."""
