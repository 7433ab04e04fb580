"""The files of one tree, read on demand: parsed once per content, every mistake reported once per file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from uhlp_state.decode import Decoded, parse_model
from uhlp_state.model import Model
from uhlp_state.parse_cache import ParseCache, Parsed
from uhlp_state.problems import Code, Problem
from uhlp_state.prompt_source import PromptSource, parse_prompt
from uhlp_state.python_source import parse_python
from uhlp_state.schema_source import parse_schema
from uhlp_state.tree_source import TreeEntry, TreeSource
from uhlp_state.yaml_source import Document, YamlPath, parse_yaml

T = TypeVar("T")
M_co = TypeVar("M_co", bound=Model, covariant=True)
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Part(Generic[M_co]):
    """A piece of the model, and where it stands: a file of its own, or inline in another."""

    model: M_co
    file: str
    document: Document
    base: YamlPath = ()

    def problem(self, path: YamlPath, code: Code, message: str, remedy: str, *, key: bool = False) -> Problem:
        """A problem at `path` below this piece."""
        return self.document.problem((*self.base, *path), code, message, remedy, key=key).in_file(self.file)

    def line(self, path: YamlPath) -> int:
        """The line of the value at `path` below this piece."""
        return self.document.position((*self.base, *path))[0]


class Files:
    """One tree's files and what is wrong with them."""

    def __init__(
        self, source: TreeSource, entries: Sequence[TreeEntry], refused: set[str], cache: ParseCache
    ) -> None:
        """`refused` names the files that must not be read."""
        self.problems: list[Problem] = []
        self._source = source
        self._entries = {entry.path: entry for entry in entries}
        self._refused = refused
        self._cache = cache
        self._parsed: dict[tuple[str, str], Any] = {}
        self._models: set[str] = set()

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def __getitem__(self, path: str) -> TreeEntry:
        return self._entries[path]

    def under(self, folder: str, *suffixes: str) -> Iterator[str]:
        """Paths below `folder` (which ends in `/`) with one of the suffixes."""
        return (path for path in self._entries if path.startswith(folder) and path.endswith(suffixes))

    def model(self, path: str, kind: type[M]) -> Part[M] | None:
        """The file as `kind`; None if it is missing or has problems, which are then in the list."""
        self._models.add(path)
        decoded: Decoded[M] | None = self._read(path, kind.__name__, lambda data: parse_model(kind, data))
        return Part(decoded.model, path, decoded.document) if decoded else None

    def prompt(self, path: str) -> PromptSource | None:
        """The file as a prompt with what its templates need; None if it is missing or has problems."""
        self._models.add(path)
        return self._read(path, "prompt", parse_prompt)

    def check_yaml(self, path: str) -> None:
        """The file must be YAML, of any content. Nothing to do for a file that was read as a model."""
        if path not in self._models:
            self._read(path, "yaml", parse_yaml)

    def schema(self, path: str) -> Any:
        """The file as a JSON Schema; None if it has problems."""
        return self._read(path, "schema", parse_schema)

    def python_names(self, path: str) -> frozenset[str] | None:
        """The names that a Python file defines at its top level."""
        return self._read(path, "python", parse_python)

    def installable(self, path: str, parse: Callable[[bytes], Parsed[bytes]]) -> bytes | None:
        """A file that an installer will get, in the form that it will get."""
        return self._read(path, parse.__name__, parse)

    def _read(self, path: str, kind: str, parse: Callable[[bytes], Parsed[T]]) -> T | None:
        if path not in self._entries or path in self._refused:
            return None
        key = (path, kind)
        if key not in self._parsed:
            entry = self._entries[path]
            parsed = self._cache.get(entry.blob, kind, entry.size, lambda: parse(self._source.read(entry)))
            self.problems.extend(problem.in_file(path) for problem in parsed.problems)
            self._parsed[key] = parsed.value
        value: T | None = self._parsed[key]
        return value
