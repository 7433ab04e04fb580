"""Files that are meant as definitions and that nothing would ever read, because of how they are called.

A policy that is not read forbids nothing, and nobody would notice. Refused is only what is certainly meant
for a name or a folder that is read; what an app keeps for itself may be called as it likes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from uhlp_state.checks.parts import Files
from uhlp_state.checks.references import STATE
from uhlp_state.problems import NEARLY, Code, Problem, closest, quoted

_FILE_SUFFIXES = (".yaml", ".yml", ".json")
"""Of files with fixed names: the suffix that is read, then those that are taken for it."""


def check_unread(files: Files, fixed: Collection[str], folders: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Report files that are meant to be one of `fixed`, or in one of `folders`, but are called otherwise.

    `folders` gives the suffix that is read in each, then those that are taken for it. Returns the paths that
    the files should have.
    """
    found = set()
    for path in files.under(STATE, ""):
        meant = _meant(path, fixed, folders)
        if meant is None or meant == path:
            continue
        found.add(meant)
        folder, _, name = meant.rpartition("/")
        if meant in files:
            remedy = f"there is {quoted(meant)} already: put what is here into that file, and remove this one"
        elif path.rpartition("/")[0] == folder:
            remedy = f"name it {quoted(name)}"
        else:
            remedy = f"did you mean {quoted(meant)}?"
        message = "this looks like a definition, but no file of this name is read"
        files.problems.append(Problem(path, 1, 1, Code.FILE_NOT_READ, message, remedy))
    return found


def _meant(path: str, fixed: Collection[str], folders: Mapping[str, tuple[str, ...]]) -> str | None:
    """The path that a file should have; None if it is meant for nothing that is read by its name."""
    stem, dot, ending = path.rpartition(".")
    suffix = dot + ending.lower()
    top, *below = stem.removeprefix(STATE).split("/")
    if not below:
        known = {file.removeprefix(STATE).removesuffix(_FILE_SUFFIXES[0]): file for file in fixed}
        name = _nearest(top, known) if suffix in _FILE_SUFFIXES else None
        return known[name] if name else None
    known = {folder.removeprefix(STATE).removesuffix("/"): folder for folder in folders}
    name = _nearest(top, known)
    if name is None or suffix not in folders[known[name]]:
        return None
    return known[name] + "/".join(below) + folders[known[name]][0]


def _nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that `word` surely stands for: written alike, or its singular or plural."""
    names = list(known)
    if word in names:
        return word
    same = (name for name in names if _singular(name) == _singular(word.lower()))
    return next(same, None) or closest(word.lower(), names, NEARLY)


def _singular(word: str) -> str:
    return word.removesuffix("ies") + "y" if word.endswith("ies") else word.removesuffix("s")
