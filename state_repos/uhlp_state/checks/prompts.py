"""Prompts: their form, and the JSON Schema of their answers (specification 8.1)."""

from __future__ import annotations

from uhlp_state.checks.parts import Files
from uhlp_state.checks.references import PROMPTS
from uhlp_state.model import PromptTemplate
from uhlp_state.schema_source import schema_mistakes


def check_prompts(files: Files) -> None:
    """Check every prompt file."""
    for path in files.under(PROMPTS, ".yaml"):
        part = files.model(path, PromptTemplate)
        if part is not None and part.model.output_schema is not None:
            files.problems.extend(
                part.problem(("outputSchema", *place), code, message, remedy)
                for place, code, message, remedy in schema_mistakes(part.model.output_schema)
            )
