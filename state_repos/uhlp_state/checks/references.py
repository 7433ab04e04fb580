"""Paths and names that one file uses and another must define: scripts, functions, prompts, schemas."""

from __future__ import annotations

from collections.abc import Mapping

from uhlp_state.checks.parts import Files, Part
from uhlp_state.checks.tree import is_safe_path
from uhlp_state.model import Model
from uhlp_state.model.pools import Language
from uhlp_state.problems import Code, did_you_mean, quoted
from uhlp_state.yaml_source import YamlPath

STATE = "state/"
CODE = "state/_jit_code/"
PROMPTS = "state/prompts/"
SCHEMAS = "state/schemas/"

LANGUAGES = {
    "python": Language.PYTHON,
    "javascript": Language.JAVASCRIPT,
    "node": Language.JAVASCRIPT,
}
"""What `language` may say; Python is the default."""

SUFFIXES = {Language.PYTHON: (".py",), Language.JAVASCRIPT: (".js", ".mjs", ".cjs")}
"""How the names of a language's scripts end."""


def check_file(
    files: Files,
    part: Part[Model],
    place: YamlPath,
    reference: str,
    folder: str,
    suffixes: tuple[str, ...],
    missing: Code,
) -> str | None:
    """The path in the tree of a file that `part` names relative to `state/`; None if it has a problem."""
    if not is_safe_path(reference):
        message = f"the path {quoted(reference)} is not a plain path below state/"
        remedy = f"write it relative to state/, like {folder.removeprefix(STATE)}…{suffixes[0]}"
        files.problems.append(part.problem(place, Code.PATH_ESCAPE, message, remedy))
        return None
    path = STATE + reference
    if path in files and path.startswith(folder) and path.endswith(suffixes):
        return path
    if path in files and path.startswith(folder):
        message = f"the name of {quoted(path)} does not end in {' or '.join(suffixes)}"
        files.problems.append(
            part.problem(place, missing, message, "rename the file, and write its new name")
        )
        return None
    known = [name.removeprefix(STATE) for name in files.under(folder, *suffixes)]
    remedy = did_you_mean(reference, known, f"add the file {folder}…{suffixes[0]}, or correct the path")
    files.problems.append(part.problem(place, missing, f"there is no file {quoted(path)}", remedy))
    return None


def check_language(files: Files, part: Part[Model], place: YamlPath, task: Mapping[str, object]) -> Language:
    """The language that a task at `place` names; Python where it names none, or one that is not run here."""
    name = task.get("language", Language.PYTHON)
    language = LANGUAGES.get(name) if isinstance(name, str) else None
    if language is None:
        remedy = f"write {', '.join(LANGUAGES)}, or leave the key out for {Language.PYTHON}"
        message = f"the language {quoted(str(name))} is not run here"
        files.problems.append(part.problem((*place, "language"), Code.BAD_VALUE, message, remedy))
        return Language.PYTHON
    return language


def check_function(
    files: Files, part: Part[Model], place: YamlPath, script: str, function: str, language: Language
) -> None:
    """A task's script must exist and, where it is Python, define the function at its top level.

    What JavaScript exports is found out by importing it, before the revision is served.
    """
    suffixes = SUFFIXES[language]
    path = check_file(files, part, (*place, "script"), script, CODE, suffixes, Code.UNKNOWN_SCRIPT)
    if language is not Language.PYTHON:
        return
    names = files.python_names(path) if path else None
    if names is not None and function not in names:
        remedy = did_you_mean(
            function, sorted(names), f"define `def {function[:60]}(input, context)` in {script}"
        )
        message = f"{script} does not define {quoted(function)} at its top level"
        files.problems.append(part.problem((*place, "function"), Code.UNKNOWN_FUNCTION, message, remedy))


def check_prompt(files: Files, part: Part[Model], place: YamlPath, prompt: str) -> None:
    """The prompt's file must exist."""
    check_file(files, part, place, prompt, PROMPTS, (".yaml",), Code.UNKNOWN_PROMPT)


def check_schema(files: Files, part: Part[Model], place: YamlPath, schema: str) -> None:
    """The schema's file must exist."""
    check_file(files, part, place, schema, SCHEMAS, (".json",), Code.UNKNOWN_SCHEMA)
