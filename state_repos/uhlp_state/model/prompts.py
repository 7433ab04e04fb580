"""Prompts: what is asked of an LLM, and what its answer must be like (specification 8.1)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AliasChoices, ConfigDict, Field, JsonValue, model_validator

from uhlp_state.model.base import Count, Model, Name, any_case, refusal
from uhlp_state.model.llm import LlmParameters
from uhlp_state.problems import Code

MAX_TEMPLATE = 200_000
"""Characters of a template, and of a system text: a few times what a person would review."""
MAX_EXAMPLES = 50
"""Each is sent with every request, and paid for."""


class OutputFormat(StrEnum):
    """What an answer is read as."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"
    XML = "xml"


EXAMPLE_KEYS = {"input": "input_vars", "output": "expected_output"}
"""The keys of an example, and what the specification calls them."""


def _name_both_keys(schema: dict[str, Any]) -> None:
    """Editors, too, take each key of an example under either of its names, and want one of them."""
    del schema["required"]
    schema["allOf"] = []
    for ours, specified in EXAMPLE_KEYS.items():
        schema["properties"][specified] = {
            **schema["properties"][ours],
            "title": specified,
            "description": f"Another name of `{ours}`.",
        }
        schema["allOf"].append({"oneOf": [{"required": [ours]}, {"required": [specified]}]})


class PromptExample(Model):
    """One example of a good answer, shown to the LLM as an earlier turn of the conversation."""

    model_config = ConfigDict(json_schema_extra=_name_both_keys)

    input: dict[str, JsonValue] = Field(
        alias="input", validation_alias=AliasChoices("input", EXAMPLE_KEYS["input"])
    )
    """The template's variables by name, over those of the request. Required."""
    output: JsonValue = Field(alias="output", validation_alias=AliasChoices("output", EXAMPLE_KEYS["output"]))
    """The answer to that input. A string is the text that the LLM would give; anything else is shown as JSON.
    Required."""


class PromptTemplate(Model):
    """A prompt (`state/prompts/*.yaml`)."""

    description: str = ""
    """What the prompt is for."""
    model: Name | None = None
    """The LLM model, instead of the app's."""
    parameters: LlmParameters = Field(default_factory=dict)
    """Parameters of the call: `temperature`, `max_tokens`, …"""
    system: str | None = Field(default=None, min_length=1, max_length=MAX_TEMPLATE)
    """Instructions that stand above the conversation; a Jinja2 template like `template`."""
    template: str = Field(min_length=1, max_length=MAX_TEMPLATE)
    """The prompt's text, a Jinja2 template."""
    output_format: Annotated[OutputFormat, *any_case(OutputFormat)] | None = None
    """`text`, `json`, `yaml` or `xml`: what the answer is read as. Default `json` where there is an
    `outputSchema`, otherwise `text`."""
    output_schema: dict[str, JsonValue] | None = None
    """JSON Schema of the answer; one that breaks it is repaired or refused, never passed on."""
    examples: tuple[PromptExample, ...] = Field(default=(), max_length=MAX_EXAMPLES)
    """Few-shot examples."""
    max_repairs: Count | None = Field(default=None, ge=0, le=5)
    """How often the LLM may mend an answer that does not fit format or schema. Default 1."""

    @model_validator(mode="after")
    def _has_structure_to_check(self) -> Self:
        if self.output_format is OutputFormat.TEXT and self.output_schema is not None:
            raise refusal(
                Code.BAD_VALUE,
                "an outputSchema means nothing for text",
                "write `outputFormat: json`, `yaml` or `xml`, or remove one of the two",
            )
        return self

    @property
    def answer_format(self) -> OutputFormat:
        """What the answer is read as, the default filled in."""
        if self.output_format is not None:
            return self.output_format
        return OutputFormat.TEXT if self.output_schema is None else OutputFormat.JSON
