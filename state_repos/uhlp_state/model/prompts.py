"""Prompt templates (specification 8.1), as far as they can be checked without rendering them."""

from __future__ import annotations

from pydantic import Field, JsonValue

from uhlp_state.model.base import Model, Name


class PromptTemplate(Model):
    """A prompt (`state/prompts/*.yaml`)."""

    description: str = ""
    """What the prompt is for."""
    model: Name | None = None
    """The LLM model, instead of the app's."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """Parameters of the call: `temperature`, `max_tokens`, …"""
    template: str = Field(min_length=1)
    """The prompt's text, a Jinja2 template."""
    output_format: Name | None = None
    """`json`, `text`, `xml` or `yaml`: what the answer should be."""
    output_schema: dict[str, JsonValue] | None = None
    """JSON Schema of the answer."""
    examples: tuple[dict[str, JsonValue], ...] = ()
    """Few-shot examples."""
