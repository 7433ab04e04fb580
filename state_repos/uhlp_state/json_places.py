"""Where in a JSON file a mistake stands: JSON is YAML, whose reader knows the place of every value."""

from __future__ import annotations

from collections.abc import Sequence

from uhlp_state.problems import Code, Problem
from uhlp_state.yaml_source import MAX_FINDINGS, YamlPath, parse_yaml

Mistake = tuple[YamlPath, Code, str, str]
"""The way to the place, the code, the message and the remedy."""


def located(data: bytes, mistakes: Sequence[Mistake]) -> tuple[Problem, ...]:
    """The mistakes of one file as problems. The file is read again, but only if there are any."""
    if not mistakes:
        return ()
    document = parse_yaml(data).value
    listed = list(mistakes[:MAX_FINDINGS])
    if len(mistakes) > MAX_FINDINGS:
        message = f"{len(mistakes)} problems, of which the first {MAX_FINDINGS} are listed"
        listed.append(((), Code.TOO_MANY_PROBLEMS, message, "mend those first"))
    return tuple(
        document.problem(path, code, message, remedy)
        if document
        else Problem("", 1, 1, code, message, remedy)
        for path, code, message, remedy in listed
    )
