"""A prompt file: its form, its templates and examples, each with its place (specification 8.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from pydantic import JsonValue
from referencing import Registry

from uhlp_state.decode import parse_model
from uhlp_state.model.prompts import EXAMPLE_KEYS, OutputFormat, PromptTemplate
from uhlp_state.parse_cache import Parsed
from uhlp_state.problems import Code, Problem
from uhlp_state.schema_source import schema_mistakes, told
from uhlp_state.template_source import read_template
from uhlp_state.template_uses import Use
from uhlp_state.yaml_source import Document, parse_yaml

_UNREAD = object()


@dataclass(frozen=True, slots=True)
class UsePlace:
    """What a prompt's template takes from its surroundings, and where in the file."""

    use: Use
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class PromptSource:
    """A prompt without problems of its own."""

    prompt: PromptTemplate
    uses: tuple[UsePlace, ...]
    """What must be given to it."""
    model_place: tuple[int, int]
    """Line and column of its `model`; of the file's start where it names none."""


def parse_prompt(data: bytes) -> Parsed[PromptSource]:
    """Read a prompt file. Never raises."""
    parsed = parse_model(PromptTemplate, data)
    if parsed.value is None:
        return Parsed(None, parsed.problems)
    prompt, document = parsed.value.model, parsed.value.document
    problems = [
        document.problem(("outputSchema", *place), code, message, remedy)
        for place, code, message, remedy in schema_mistakes(prompt.output_schema or {})
    ]
    uses: list[UsePlace] = []
    for key, text in (("system", prompt.system), ("template", prompt.template)):
        if text is not None:
            lines = _Lines(data, document, key)
            found = read_template(text)
            problems += [
                Problem("", *lines.place(mistake.line), mistake.code, mistake.message, mistake.remedy)
                for mistake in found.mistakes
            ]
            uses += [UsePlace(use, *lines.place(use.line)) for use in found.uses]
    if not problems:
        problems += _example_problems(prompt, document)
    if problems:
        return Parsed(None, tuple(problems))
    place = document.position(("model",) if prompt.model is not None else ())
    return Parsed(PromptSource(prompt, tuple(uses), place))


class _Lines:
    """From the lines of a text in a YAML file to the lines of the file.

    Exact for a literal block (`|`), where the text's lines are the file's. In the other styles the YAML
    folds lines, and the place of the value itself is the nearest that can be named.
    """

    def __init__(self, data: bytes, document: Document, key: str) -> None:
        self._place = document.position((key,))
        self._file = data.decode("utf-8-sig").splitlines()
        line, column = self._place
        self._is_literal = self._file[line - 1][column - 1 : column] == "|"

    def place(self, line: int) -> tuple[int, int]:
        """Line and column in the file of a line of the text, both from 1."""
        if not self._is_literal:
            return self._place
        found = min(self._place[0] + line, len(self._file))
        text = self._file[found - 1]
        return found, len(text) - len(text.lstrip()) + 1


def _example_problems(prompt: PromptTemplate, document: Document) -> Iterator[Problem]:
    """An example is an answer that the prompt itself must take."""
    validator = Draft202012Validator(prompt.output_schema or {}, registry=Registry())
    for index, example in enumerate(prompt.examples):
        base = ("examples", index, _written_key(document, index, "output"))
        try:
            output = _parsed(example.output, prompt.answer_format)
        except ValueError:
            message = f"the output cannot be read as {prompt.answer_format}"
            remedy = "write what the LLM should answer, as text"
            yield document.problem(base, Code.EXAMPLE_INVALID, message, remedy)
            continue
        if output is _UNREAD:
            continue
        error: ValidationError | None = best_match(validator.iter_errors(output))
        if error is not None:
            place = base if isinstance(example.output, str) else (*base, *error.absolute_path)
            message = f"the output does not fit the prompt's outputSchema: {told(error)}"
            yield document.problem(place, Code.EXAMPLE_INVALID, message, "correct the example or the schema")


def _written_key(document: Document, index: int, key: str) -> str:
    """How the file calls a key of an example."""
    value: Any = document.value
    return key if key in value["examples"][index] else EXAMPLE_KEYS[key]


def _parsed(output: JsonValue, form: OutputFormat) -> object:
    """An example's output as the schema sees it; _UNREAD for XML. Raises ValueError."""
    if form is OutputFormat.XML:
        if not isinstance(output, str):
            raise ValueError("the LLM would be shown JSON")
        return _UNREAD  # Where answers are checked, XML is read by rules that are not known here.
    if not isinstance(output, str) or form is OutputFormat.TEXT:
        return output
    if form is OutputFormat.JSON:
        return orjson.loads(output)
    read = parse_yaml(output.encode())
    if read.value is None:
        raise ValueError("not YAML")
    return read.value.value
