"""YAML as the platform reads it: plain JSON-like values, each with its place in the text.

Values follow the core schema of YAML 1.2 (`yes`, `on` and dates are strings, as in JSON), so that every
document can be carried as JSON. The document is built from the parser's events without recursion, and every
bound is checked while building, so no input can exhaust memory or the stack. Never raises on any bytes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from uhlp_state.parse_cache import Parsed
from uhlp_state.problems import Code, Problem, quoted

MAX_BYTES = 1024 * 1024
"""Of one file. Definitions are written and reviewed by people; the longest are a few hundred lines."""
MAX_DEPTH = 64
"""Of nesting, aliases expanded. Keeps every later walk and encoder far from its recursion limit."""
MAX_NODES = 50_000
"""Values and keys, aliases expanded: about a second of work at most, and no alias bomb."""
MAX_CHARACTERS = 4 * 1024 * 1024
"""Of all scalars, aliases expanded: a long text repeated by aliases is a bomb too."""
MAX_FINDINGS = 100
"""Problems listed of one file; the first few are what matters."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAX_DIGITS = 20
"""Digits of the largest 64-bit integer; longer ones are not even converted."""

YamlPath = tuple[str | int, ...]
"""The way to a value: mapping keys and list positions."""


@dataclass(slots=True)
class _Mark:
    """Where a value starts. There is one per value of every cached document, so it holds nothing else."""

    line: int
    column: int


@dataclass(slots=True)
class _ContainerMark(_Mark):
    """Where a mapping or list starts, and what is in it."""

    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    values: dict[str | int, _Mark] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its value, and the place of everything in it."""

    value: Any
    _root: _Mark

    def position(self, path: YamlPath, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at `path`, or of its key.

        Steps that do not exist are passed over, so the place of what is missing is that of the mapping
        which should hold it.
        """
        mark, place = self._root, (self._root.line, self._root.column)
        for step in path:
            if not isinstance(mark, _ContainerMark) or step not in mark.values:
                continue
            below = mark.values[step]
            place = (below.line, below.column)
            if key and isinstance(step, str):
                place = mark.keys[step]
            mark = below
        return place

    def problem(self, path: YamlPath, code: Code, message: str, remedy: str, *, key: bool = False) -> Problem:
        """A problem at `path`, in a file yet to be named."""
        line, column = self.position(path, key=key)
        return Problem("", line, column, code, message, remedy)


def parse_yaml(data: bytes) -> Parsed[Document]:
    """Read one YAML document. An empty one counts as an empty mapping."""
    if len(data) > MAX_BYTES:
        return _refused(
            1, 1, Code.FILE_TOO_LARGE, f"the file is larger than {MAX_BYTES} bytes", "split the file"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place_of_byte(data, error.start)
        return _refused(
            line, column, Code.INVALID_UTF8, "the file is not UTF-8 text", "save the file as UTF-8"
        )
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.feed(event)
    except _Stop as stop:
        builder.problems.append(stop.problem)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        if mark is None or mark.line >= len(text.splitlines()):
            # What is wrong shows only at the end of the file; what was never closed began earlier.
            mark = error.context_mark or mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        return _refused(line, column, Code.YAML_SYNTAX, reason, "check indentation, quotes and colons here")
    except yaml.reader.ReaderError as error:
        line, column = _place_of_byte(text.encode(), error.position)
        remedy = "remove the character, or write it as an escape in double quotes"
        return _refused(line, column, Code.YAML_SYNTAX, error.reason, remedy)
    if builder.problems:
        return Parsed(None, tuple(builder.problems))
    if builder.document is None or builder.document.value is None:
        return Parsed(Document({}, _Mark(1, 1)))
    return Parsed(builder.document)


def _refused(line: int, column: int, code: Code, message: str, remedy: str) -> Parsed[Document]:
    return Parsed(None, (Problem("", line, column, code, message, remedy),))


def _place_of_byte(data: bytes, offset: int) -> tuple[int, int]:
    before = data[:offset]
    line_start = before.rfind(b"\n") + 1
    return before.count(b"\n") + 1, len(before[line_start:].decode("utf-8", "replace")) + 1


def _start(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    assert mark is not None, "events of a parser always have one"
    return mark.line + 1, mark.column + 1


class _Stop(Exception):
    """Reading on would be unsafe or pointless."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class _Weight:
    """How much a value weighs once its aliases are expanded."""

    nodes: int = 0
    characters: int = 0
    height: int = 0


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being filled."""

    value: dict[str, Any] | list[Any]
    mark: _ContainerMark
    anchor: str | None
    weight: _Weight
    key: str | None = None
    key_place: tuple[int, int] | None = None


class _Builder:
    """Turns parser events into a `Document`, with an explicit stack."""

    def __init__(self) -> None:
        self.document: Document | None = None
        self.problems: list[Problem] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, _Mark, _Weight]] = {}
        self._documents = 0
        self._total = _Weight()

    def feed(self, event: yaml.Event) -> None:
        """Take the next event.

        Raises:
            _Stop: reading on would be unsafe or pointless.
        """
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            done = self._stack.pop()
            done.weight.height += 1
            self._place(done.value, done.mark, done.weight, done.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                message, remedy = "a second document starts here", "keep one document per file"
                raise _Stop(self._problem(event, Code.YAML_MANY_DOCUMENTS, message, remedy))

    def _place(self, value: Any, mark: _Mark, weight: _Weight, anchor: str | None) -> None:
        """Put a finished value where it belongs."""
        if anchor is not None:
            self._anchors[anchor] = (value, mark, weight)
        if not self._stack:
            self.document = Document(value, mark)
            return
        top = self._stack[-1]
        top.weight.nodes += weight.nodes
        top.weight.characters += weight.characters
        top.weight.height = max(top.weight.height, weight.height)
        if isinstance(top.value, list):
            top.mark.values[len(top.value)] = mark
            top.value.append(value)
        elif top.key is not None and top.key_place is not None:
            top.mark.values[top.key] = mark
            top.mark.keys[top.key] = top.key_place
            top.value[top.key] = value
            top.key = None

    def _count(self, event: yaml.Event, nodes: int, characters: int) -> None:
        self._total.nodes += nodes
        self._total.characters += characters
        if self._total.nodes > MAX_NODES or self._total.characters > MAX_CHARACTERS:
            message = f"the document has more than {MAX_NODES} values or {MAX_CHARACTERS} characters"
            raise _Stop(self._too_complex(event, message))

    def _problem(self, event: yaml.Event, code: Code, message: str, remedy: str) -> Problem:
        return Problem("", *_start(event), code, message, remedy)

    def _report(self, event: yaml.Event, code: Code, message: str, remedy: str) -> None:
        self.problems.append(self._problem(event, code, message, remedy))
        if len(self.problems) >= MAX_FINDINGS:
            message = f"more than {MAX_FINDINGS} problems; the rest of the file was not read"
            raise _Stop(self._problem(event, Code.TOO_MANY_PROBLEMS, message, "mend those listed first"))

    def _expects_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        text: str = event.value
        self._check_tag(event)
        # Quoted text, and text with a tag, is never read as a number or a constant.
        value = self._resolve(event, text) if event.implicit[0] else text
        if self._expects_key():
            self._key(event, text, value)
        else:
            mark = _Mark(*_start(event))
            self._count(event, 1, len(text))
            self._place(value, mark, _Weight(1, len(text)), event.anchor)

    def _resolve(self, event: yaml.ScalarEvent, text: str) -> Any:
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text) or _BASED_INTEGER.fullmatch(text):
            if len(text) <= _MAX_DIGITS:
                # Base 0 would refuse the leading zeros that YAML allows.
                number = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
                if -(2**63) <= number < 2**64:
                    return number
        elif _FLOAT.fullmatch(text):
            if math.isfinite(value := float(text)):
                return value
        elif not _NOT_FINITE.fullmatch(text):
            return text
        message = f"{quoted(text)} is not a number that JSON can carry"
        self._report(
            event, Code.YAML_NUMBER, message, "use a smaller number, or quote it to make it a string"
        )
        return 0

    def _check_tag(self, event: yaml.ScalarEvent | yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if event.tag is not None:
            message = f"the tag {quoted(event.tag)} is not read"
            self._report(event, Code.YAML_TAG, message, "remove the tag; quote a value to make it a string")

    def _key(self, event: yaml.Event, text: str, value: Any) -> None:
        top = self._stack[-1]
        # Whatever is wrong with it, the key stands until its value has come: the mapping stays in step.
        top.key = text
        top.key_place = _start(event)
        top.weight.nodes += 1
        top.weight.characters += len(text)
        self._count(event, 1, len(text))
        if text == "<<":
            message = "merge keys (`<<`) are not part of YAML 1.2"
            self._report(event, Code.YAML_ALIAS, message, "write the keys out")
        elif not isinstance(value, str):
            message = f"the key {quoted(text)} is not a string"
            self._report(event, Code.YAML_KEY_NOT_TEXT, message, "put the key in quotes")
        elif text in top.mark.keys:
            line, _ = top.mark.keys[text]
            message = f"the key {quoted(text)} is already on line {line}"
            self._report(event, Code.YAML_DUPLICATE_KEY, message, "remove one of the two")

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if self._expects_key():
            message, remedy = "a mapping or list cannot be a key", "use a string as the key"
            raise _Stop(self._problem(event, Code.YAML_KEY_NOT_TEXT, message, remedy))
        self._check_tag(event)
        if len(self._stack) >= MAX_DEPTH:
            raise _Stop(self._too_complex(event, f"the document is nested deeper than {MAX_DEPTH} levels"))
        mark = _ContainerMark(*_start(event))
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Open(value, mark, event.anchor, _Weight(1)))
        self._count(event, 1, 0)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if self._expects_key():
            message, remedy = "an alias cannot be a key", "write the key out"
            raise _Stop(self._problem(event, Code.YAML_ALIAS, message, remedy))
        if any(above.anchor == event.anchor for above in self._stack):
            message, remedy = f"the alias {quoted(event.anchor)} contains itself", "write the value out"
            raise _Stop(self._problem(event, Code.YAML_ALIAS, message, remedy))
        if event.anchor not in self._anchors:
            message, remedy = f"the alias {quoted(event.anchor)} has no anchor above it", "define it first"
            raise _Stop(self._problem(event, Code.YAML_ALIAS, message, remedy))
        value, mark, weight = self._anchors[event.anchor]
        if len(self._stack) + weight.height > MAX_DEPTH:
            raise _Stop(self._too_complex(event, f"the document is nested deeper than {MAX_DEPTH} levels"))
        self._count(event, weight.nodes, weight.characters)
        self._place(value, mark, weight, None)

    def _too_complex(self, event: yaml.Event, message: str) -> Problem:
        return self._problem(event, Code.YAML_TOO_COMPLEX, message, "simplify the document, or split it")
