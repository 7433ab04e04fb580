"""What the validator has to say: one `Problem` per mistake, and the list of all its codes.

A problem names the place, the mistake and the way to mend it. Texts never quote configuration values,
prompts or secrets: at most the offending key or a short value, through `quoted`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum

MAX_QUOTED = 60
"""Characters of a key or value that a message repeats: enough to find it, too few to leak a document."""
MAX_CANDIDATES = 200
"""Names that a suggestion is looked for among: some milliseconds per problem, of which there may be many."""
NEARLY = 0.85
"""Likeness of two names, as `difflib` measures it, of which one can only be a slip for the other."""
_LIKELY = 0.6
"""Likeness that is enough for a guess, where the problem itself is certain."""


class Code(StrEnum):
    """Stable names of every kind of problem; `meaning` is the sentence that the manual prints."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Code:
        code = str.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    # The tree
    SYMLINK = "SYMLINK", "A symbolic link; its target could lie outside the app."
    SUBMODULE = "SUBMODULE", "A Git submodule; its content is not part of the commit."
    NOT_A_FILE = "NOT_A_FILE", "Neither a regular file nor a folder."
    PATH_ESCAPE = (
        "PATH_ESCAPE",
        "A path that could leave its folder, or that a file system would read otherwise.",
    )
    GIT_PATH = "GIT_PATH", "A path with a component that Git or a file system would take for `.git`."
    FILE_TOO_LARGE = "FILE_TOO_LARGE", "A file beyond the size limit of its kind."
    TOO_MANY_FILES = "TOO_MANY_FILES", "More files than one app may hold."
    TREE_TOO_LARGE = "TREE_TOO_LARGE", "All files together are beyond the size limit of one app."
    MISSING_FILE = "MISSING_FILE", "A file that every app needs is not there."
    FILE_NOT_READ = (
        "FILE_NOT_READ",
        "A file that is meant as a definition, and would never be read because of its name or folder.",
    )
    DUPLICATE_DEFINITION = (
        "DUPLICATE_DEFINITION",
        "The same thing is defined inline and in a file of its own.",
    )
    # YAML
    INVALID_UTF8 = "INVALID_UTF8", "The file is not UTF-8 text."
    YAML_SYNTAX = "YAML_SYNTAX", "The file is not well-formed YAML."
    YAML_DUPLICATE_KEY = "YAML_DUPLICATE_KEY", "A mapping has the same key twice."
    YAML_KEY_NOT_TEXT = "YAML_KEY_NOT_TEXT", "A mapping key is not a string."
    YAML_TAG = "YAML_TAG", "An explicit YAML tag; only plain JSON-like values are read."
    YAML_ALIAS = "YAML_ALIAS", "An alias that is undefined, contains itself, or a merge key (`<<`)."
    YAML_TOO_COMPLEX = (
        "YAML_TOO_COMPLEX",
        "The document is nested too deep, or too big once its aliases are expanded.",
    )
    YAML_MANY_DOCUMENTS = "YAML_MANY_DOCUMENTS", "The file holds more than one YAML document."
    YAML_NUMBER = "YAML_NUMBER", "A number that JSON cannot carry: not finite, or beyond 64 bits."
    # The model
    UNKNOWN_KEY = "UNKNOWN_KEY", "A key that does not exist at this place."
    MISSING_KEY = "MISSING_KEY", "A required key is not there."
    WRONG_TYPE = "WRONG_TYPE", "A value of another type than the key takes."
    BAD_VALUE = "BAD_VALUE", "A value that the key does not take."
    BAD_MOUNT = "BAD_MOUNT", "A volume mount that cannot be read, or of what is never mounted."
    BAD_LIMIT = "BAD_LIMIT", "A resource limit that cannot be read or is out of its range."
    BAD_KEY_HASH = "BAD_KEY_HASH", "An API key's hash is not an Argon2 hash, or its cost is out of range."
    BAD_ROUTE = "BAD_ROUTE", "A route pattern that cannot be read."
    BAD_URL = "BAD_URL", "An address that cannot be read, or that may not be called."
    BAD_PATTERN = "BAD_PATTERN", "A regular expression that cannot be read."
    PLAIN_CREDENTIAL = (
        "PLAIN_CREDENTIAL",
        "A credential that is no reference to a secret (`secret:<name>`).",
    )
    # Cross references
    APP_ID_MISMATCH = "APP_ID_MISMATCH", "The definition's appId is not the app that it is pushed to."
    DUPLICATE_POOL = "DUPLICATE_POOL", "Two pools have the same name."
    DUPLICATE_COMPONENT = "DUPLICATE_COMPONENT", "Two components have the same id."
    DUPLICATE_WORKFLOW = "DUPLICATE_WORKFLOW", "Two workflow files have the same workflowId."
    ROUTE_CONFLICT = "ROUTE_CONFLICT", "Two components answer the same path and method."
    DUPLICATE_TOOL = (
        "DUPLICATE_TOOL",
        "Two tools have the same name, or names that clients cannot tell apart.",
    )
    UNKNOWN_POOL = "UNKNOWN_POOL", "A component names a pool that the app does not define."
    UNKNOWN_COMPONENT = (
        "UNKNOWN_COMPONENT",
        "A tool or a policy names a component that the app does not define.",
    )
    UNKNOWN_PERMISSION = (
        "UNKNOWN_PERMISSION",
        "A route asks for a permission that no API key has, surely a slip for one that a key has.",
    )
    LANGUAGE_MISMATCH = "LANGUAGE_MISMATCH", "A component's pool runs another language."
    UNKNOWN_SCRIPT = "UNKNOWN_SCRIPT", "A script that is not in the tree."
    UNKNOWN_FUNCTION = "UNKNOWN_FUNCTION", "A script does not define the function at its top level."
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA", "A JSON Schema that is not in the tree."
    UNKNOWN_PROMPT = "UNKNOWN_PROMPT", "A prompt file that is not in the tree."
    UNKNOWN_PROVIDER = "UNKNOWN_PROVIDER", "A model of a provider that the app's `llm` does not define."
    LLM_NOT_CONFIGURED = "LLM_NOT_CONFIGURED", "An LLM component in an app that has no `llm`."
    UNKNOWN_RULES = "UNKNOWN_RULES", "A scripted provider's file of rules that is not in the tree."
    UNKNOWN_WORKFLOW = "UNKNOWN_WORKFLOW", "No workflow file has this workflowId."
    UNKNOWN_STEP = "UNKNOWN_STEP", "A workflow points to a step that it does not define."
    # Code and schemas
    PYTHON_SYNTAX = "PYTHON_SYNTAX", "A Python file does not compile."
    JSON_SYNTAX = "JSON_SYNTAX", "A JSON file is not well-formed."
    SCHEMA_INVALID = (
        "SCHEMA_INVALID",
        "A JSON Schema is not valid (draft 2020-12; of other MCP servers' tools also draft-07).",
    )
    SCHEMA_REFERENCE = (
        "SCHEMA_REFERENCE",
        "A JSON Schema refers outside itself, or to a place that it does not have.",
    )
    # Packages
    BAD_DEPENDENCY = "BAD_DEPENDENCY", "A dependency, or a lock of dependencies, that cannot be read."
    DEPENDENCY_SOURCE = (
        "DEPENDENCY_SOURCE",
        "A dependency names where it comes from, or sets an option; that is the operator's to say.",
    )
    # Prompts
    TEMPLATE_SYNTAX = "TEMPLATE_SYNTAX", "A prompt's template is not valid Jinja2."
    TEMPLATE_REFUSED = "TEMPLATE_REFUSED", "A template uses a part of Jinja2 that prompts do not have."
    TEMPLATE_UNKNOWN_NAME = (
        "TEMPLATE_UNKNOWN_NAME",
        "A template uses a filter, a test or a variable that does not exist.",
    )
    EXAMPLE_INVALID = (
        "EXAMPLE_INVALID",
        "A prompt's example does not fit its own outputFormat or outputSchema.",
    )
    # The platform's rules
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED", "The app asks for more than the platform gives one app."
    IMAGE_NOT_ALLOWED = "IMAGE_NOT_ALLOWED", "A pool's image is not on the platform's list."
    MOUNT_NOT_ALLOWED = "MOUNT_NOT_ALLOWED", "A pool's volume mount is not on the platform's list."
    COMMAND_NOT_ALLOWED = "COMMAND_NOT_ALLOWED", "A program is not on the platform's list."
    MCP_SERVER_NOT_ALLOWED = (
        "MCP_SERVER_NOT_ALLOWED",
        "An MCP server's program is not on the platform's list.",
    )
    MCP_VARIABLE_NOT_ALLOWED = (
        "MCP_VARIABLE_NOT_ALLOWED",
        "An MCP server's environment variable is not one that the platform lets apps set.",
    )
    SECRET_IN_CONFIG = "SECRET_IN_CONFIG", "A credential is written out instead of a reference to a secret."
    # The report itself
    TOO_MANY_PROBLEMS = "TOO_MANY_PROBLEMS", "A file has more problems than are listed."


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake at one place. Sorts by file and line."""

    file: str
    """POSIX path in the repo; empty for what concerns the tree as a whole."""
    line: int
    """From 1."""
    column: int
    """From 1, in characters."""
    code: str
    """One of `Code`."""
    message: str
    """What is wrong."""
    remedy: str
    """What to do about it."""

    def in_file(self, file: str) -> Problem:
        """The same problem at `file`: what is remembered per blob knows no path."""
        return replace(self, file=file)

    def format(self) -> str:
        """Two lines for people."""
        place = f"{self.file}:{self.line}:{self.column} " if self.file else ""
        return f"{place}{self.code} {self.message}\n    fix: {self.remedy}"

    def to_json(self) -> dict[str, str | int]:
        """Plain JSON, for the control API and for tools."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "code": str(self.code),
            "message": self.message,
            "remedy": self.remedy,
        }


def quoted(value: object) -> str:
    """`value` in quotes for a message, on one line and cut short."""
    return repr(cut_short(str(value), MAX_QUOTED))


def cut_short(text: str, length: int) -> str:
    """`text` in at most so many characters, the last of which tells if there were more."""
    return text if len(text) <= length else text[: length - 1] + "…"


def closest(word: str, known: Iterable[str], likeness: float = _LIKELY) -> str | None:
    """The known name that `word` most likely stands for, if any is as like it as `likeness` asks."""
    # Comparing costs the product of the lengths, so a hostile word is cut short first.
    found = get_close_matches(word[:MAX_QUOTED], sorted(known)[:MAX_CANDIDATES], n=1, cutoff=likeness)
    return next(iter(found), None)


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """The remedy for an unknown name: the closest known one, or `otherwise`."""
    close = closest(word, known)
    return f"did you mean {quoted(close)}?" if close else otherwise
