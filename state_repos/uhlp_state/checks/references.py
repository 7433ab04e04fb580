"""Paths and names that one file uses and another must define: scripts, functions, prompts, schemas."""

from __future__ import annotations

from uhlp_state.checks.parts import Files, Part
from uhlp_state.checks.tree import is_safe_path
from uhlp_state.model import Model
from uhlp_state.problems import Code, did_you_mean, quoted
from uhlp_state.yaml_source import YamlPath

STATE = "state/"
CODE = "state/_jit_code/"
PROMPTS = "state/prompts/"
SCHEMAS = "state/schemas/"


def check_file(
    files: Files, part: Part[Model], place: YamlPath, reference: str, folder: str, suffix: str, missing: Code
) -> str | None:
    """The path in the tree of a file that `part` names relative to `state/`; None if it has a problem."""
    if not is_safe_path(reference):
        message = f"the path {quoted(reference)} is not a plain path below state/"
        remedy = f"write it relative to state/, like {folder.removeprefix(STATE)}…{suffix}"
        files.problems.append(part.problem(place, Code.PATH_ESCAPE, message, remedy))
        return None
    path = STATE + reference
    if path in files and path.startswith(folder) and path.endswith(suffix):
        return path
    known = [name.removeprefix(STATE) for name in files.under(folder, suffix)]
    remedy = did_you_mean(reference, known, f"add the file {folder}…{suffix}, or correct the path")
    files.problems.append(part.problem(place, missing, f"there is no file {quoted(path)}", remedy))
    return None


def check_function(
    files: Files,
    part: Part[Model],
    script_place: YamlPath,
    script: str,
    function_place: YamlPath,
    function: str,
) -> None:
    """The script must exist and define the function at its top level."""
    path = check_file(files, part, script_place, script, CODE, ".py", Code.UNKNOWN_SCRIPT)
    names = files.python_names(path) if path else None
    if names is not None and function not in names:
        remedy = did_you_mean(
            function, sorted(names), f"define `def {function[:60]}(input, context)` in {script}"
        )
        message = f"{script} does not define {quoted(function)} at its top level"
        files.problems.append(part.problem(function_place, Code.UNKNOWN_FUNCTION, message, remedy))


def check_prompt(files: Files, part: Part[Model], place: YamlPath, prompt: str) -> None:
    """The prompt's file must exist."""
    check_file(files, part, place, prompt, PROMPTS, ".yaml", Code.UNKNOWN_PROMPT)


def check_schema(files: Files, part: Part[Model], place: YamlPath, schema: str) -> None:
    """The schema's file must exist."""
    check_file(files, part, place, schema, SCHEMAS, ".json", Code.UNKNOWN_SCHEMA)
