"""The tree itself: what kinds of files, under which names, how many and how large."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from uhlp_state.problems import Code, Problem, quoted
from uhlp_state.tree_source import MODE_SUBMODULE, MODE_SYMLINK, TreeEntry

MEBIBYTE = 1024 * 1024
MAX_FILES = 5_000
"""Of one app. Every revision is exported file by file; more belongs in a data store."""
MAX_TREE_BYTES = 100 * MEBIBYTE
"""Of all files of one app: what an export may write to disk per revision."""
MAX_DEFINITIONS_BYTES = 16 * MEBIBYTE
"""Of all files that are parsed: a few seconds per mebibyte at worst, once per change."""
MAX_DEFINITION_BYTES = MEBIBYTE
"""Of one file of definitions or code: it is parsed at every change."""
MAX_ASSET_BYTES = 10 * MEBIBYTE
"""Of one file that is only stored and served: under `state/ui/`, or outside `state/`."""
MAX_PATH = 512
"""Characters of a path: an export's folder comes before it, and file systems end at 4,096 bytes."""
MAX_PATH_COMPONENT = 255
"""Bytes of one name: the limit of common file systems. `_HARMLESS` holds it too."""

_HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,254})*")
"""Names without a leading dot or a special character: nothing more to check, and nearly all are."""
_REGULAR = 0o100000


def check_tree(entries: Sequence[TreeEntry]) -> list[Problem]:
    """Problems of the tree as a whole and of its entries. None of the files named may be read."""
    if len(entries) > MAX_FILES:
        message = f"the tree has {len(entries)} files, more than {MAX_FILES}"
        return [
            Problem("", 1, 1, Code.TOO_MANY_FILES, message, "keep generated files and data out of the repo")
        ]
    total = sum(entry.size for entry in entries)
    if total > MAX_TREE_BYTES:
        message = f"the files have {total} bytes together, more than {MAX_TREE_BYTES}"
        return [Problem("", 1, 1, Code.TREE_TOO_LARGE, message, "keep large files outside, in a data store")]
    parsed = sum(entry.size for entry in entries if _is_parsed(entry.path))
    if parsed > MAX_DEFINITIONS_BYTES:
        message = f"definitions and code have {parsed} bytes together, more than {MAX_DEFINITIONS_BYTES}"
        return [
            Problem("", 1, 1, Code.TREE_TOO_LARGE, message, "move assets to state/ui/, and data elsewhere")
        ]
    return [problem for entry in entries if (problem := _check_entry(entry)) is not None]


def is_safe_path(path: str) -> bool:
    """Whether a path that a definition names stays below the folder it is relative to."""
    return _path_mistake(path) is None


def _is_parsed(path: str) -> bool:
    return path.startswith("state/") and not path.startswith("state/ui/")


def _check_entry(entry: TreeEntry) -> Problem | None:
    if (mistake := _path_mistake(entry.path)) is not None:
        code, message, remedy = mistake
    elif entry.mode == MODE_SYMLINK:
        code, message, remedy = Code.SYMLINK, "the file is a symbolic link", "commit the file itself"
    elif entry.mode == MODE_SUBMODULE:
        code, message, remedy = Code.SUBMODULE, "the folder is a submodule", "commit the files themselves"
    elif entry.mode & 0o170000 != _REGULAR:
        code, message, remedy = Code.NOT_A_FILE, "this is not a regular file", "remove it"
    else:
        parsed = _is_parsed(entry.path)
        limit = MAX_DEFINITION_BYTES if parsed else MAX_ASSET_BYTES
        if entry.size <= limit:
            return None
        code, message = Code.FILE_TOO_LARGE, f"the file has {entry.size} bytes, more than {limit}"
        remedy = "split the file" if parsed else "keep large files outside, in a data store"
    return Problem(entry.path, 1, 1, code, message, remedy)


def _path_mistake(path: str) -> tuple[Code, str, str] | None:
    if len(path) <= MAX_PATH and _HARMLESS.fullmatch(path):
        return None
    names = path.split("/")
    if any(name in ("", ".", "..") for name in names):
        return Code.PATH_ESCAPE, f"the path {quoted(path)} is absolute or leaves its folder", "rename it"
    if any(_is_git(name) for name in names):
        return Code.GIT_PATH, f"the path {quoted(path)} has a component that reads as .git", "rename it"
    if "\\" in path or not path.isprintable():
        message = f"the path {quoted(path)} has a backslash or a character that does not print"
        return Code.PATH_ESCAPE, message, "use letters, digits, `_`, `-` and `.`"
    if len(path) > MAX_PATH:
        return Code.PATH_ESCAPE, f"the path is longer than {MAX_PATH} characters", "shorten it"
    if any(len(name.encode()) > MAX_PATH_COMPONENT for name in names):
        return Code.PATH_ESCAPE, f"a name is longer than {MAX_PATH_COMPONENT} bytes", "shorten it"
    return None


def _is_git(component: str) -> bool:
    """Whether some file system would take the name for `.git`.

    Some ignore letter case, some drop invisible characters, some drop trailing dots and spaces or read
    `:` as the start of a stream's name, and `git~1` is the short form that old Windows makes of it.
    """
    visible = "".join(char for char in component if unicodedata.category(char) != "Cf")
    plain = unicodedata.normalize("NFKC", visible).casefold().split(":")[0].rstrip(" .")
    return plain == ".git" or re.fullmatch(r"git~[0-9]+", plain) is not None
