"""Unified diffs of one file: reading them, and applying them exactly.

A hunk may have moved, but its context must match to the letter: a machine's edit is never guessed into
place. Line ends are part of the lines, so CRLF stays CRLF. Which file is meant is the caller's business;
the names in the diff's headers are not looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from uhlp_core.errors import UhlpError

MAX_DIFF_CHARACTERS = 4 * 1024 * 1024
"""Of one diff: twice the largest file that a definition may hold, with every line changed."""
MAX_COMPARISONS = 2_000_000
"""Places tried for the hunks of one diff, all together: bounds a diff made to be slow."""

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_NO_NEWLINE = "\\ "


class PatchError(UhlpError):
    """A diff that cannot be read, or does not fit the file; the text names hunk and line."""

    code = "PATCH_FAILED"


@dataclass(slots=True)
class Hunk:
    """One changed stretch of the file."""

    number: int
    """From 1, for messages."""
    start: int
    """Line of the old file, from 1; for a stretch without old lines, the line after which it goes."""
    old: list[str] = field(default_factory=list)
    """Lines with their ends, as they must be found."""
    new: list[str] = field(default_factory=list)
    """Lines to put in their place."""


@dataclass(slots=True)
class FilePatch:
    """A diff of one file."""

    hunks: list[Hunk] = field(default_factory=list)
    creates: bool = False
    deletes: bool = False


def apply_diff(diff: str, original: str | None) -> str | None:
    """The text after `diff`; None stands for a file that is not there, before or after.

    Raises:
        PatchError: the diff is malformed, is of several files, or does not fit `original`.
    """
    patch = parse_diff(diff)
    if patch.creates and original is not None:
        raise PatchError("the diff creates the file, but there is one already: make a diff against it")
    if original is None and not patch.creates:
        raise PatchError("the diff changes a file that does not exist: start it with `--- /dev/null`")
    result = _apply(patch.hunks, split_lines(original or ""))
    if patch.deletes:
        if result:
            raise PatchError(
                f"the diff deletes the file, but {len(result)} of its lines would be left: the file has "
                "changed since the diff was made"
            )
        return None
    return "".join(result)


def split_lines(text: str) -> list[str]:
    """Lines with their ends; only `\\n` ends a line, as for Git."""
    lines = text.split("\n")
    last = lines.pop()
    return [f"{line}\n" for line in lines] + ([last] if last else [])


def parse_diff(diff: str) -> FilePatch:
    """Read a diff in Git's or in the plain format; raises PatchError."""
    if len(diff) > MAX_DIFF_CHARACTERS:
        raise PatchError(f"the diff is longer than {MAX_DIFF_CHARACTERS} characters: split it")
    lines = split_lines(diff)
    patch, files, at = FilePatch(), 0, 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("@@"):
            at = _read_hunk(lines, at, patch)
        elif line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            files += 1
            patch.creates |= _names_nothing(line)
            patch.deletes |= _names_nothing(lines[at + 1])
            at += 2
        elif line.rstrip() == "--" and patch.hunks:
            break  # the signature that `git format-patch` puts at the end
        else:
            _check_between(line, at + 1, patch)
            at += 1
        if files > 1:
            raise PatchError(f"line {at} of the diff starts a second file: send one diff per file")
    if not patch.hunks and not patch.creates and not patch.deletes:
        raise PatchError("the diff holds no hunk (a line like `@@ -1,3 +1,4 @@`): there is nothing to apply")
    return patch


def _names_nothing(header: str) -> bool:
    return header[4:].split("\t")[0].strip() == "/dev/null"


def _check_between(line: str, number: int, patch: FilePatch) -> None:
    """A line outside of hunks: headers tell something, the rest is prose, and some means trouble."""
    if line.startswith("new file mode"):
        patch.creates = True
    elif line.startswith("deleted file mode"):
        patch.deletes = True
    elif line.startswith(("GIT binary patch", "Binary files ")):
        raise PatchError(f"line {number} of the diff is a binary change: set the file's content instead")
    elif line.startswith(("rename from ", "copy from ")):
        raise PatchError(f"line {number} of the diff renames a file: set the new one and delete the old one")
    elif patch.hunks and line[:1] in ("+", "-", " "):
        raise PatchError(
            f"line {number} of the diff comes after the end of hunk {len(patch.hunks)}: the line counts in "
            "the hunk's @@ line are too small"
        )


def _read_hunk(lines: list[str], at: int, patch: FilePatch) -> int:
    number = len(patch.hunks) + 1
    header = _HUNK.match(lines[at])
    if not header:
        raise PatchError(f"hunk {number}: {lines[at].strip()[:80]!r} is not like `@@ -1,3 +1,4 @@`")
    start, old_count, _, new_count = (1 if text is None else int(text) for text in header.groups())
    hunk = Hunk(number, start)
    at += 1
    while len(hunk.old) < old_count or len(hunk.new) < new_count:
        if at >= len(lines):
            raise PatchError(
                f"hunk {number} ends early: its @@ line promises {old_count} old and {new_count} new lines, "
                f"there are {len(hunk.old)} and {len(hunk.new)}"
            )
        at = _read_line(lines, at, hunk)
    if len(hunk.old) > old_count or len(hunk.new) > new_count:
        raise PatchError(f"hunk {number}: the line counts in its @@ line do not match its lines")
    patch.hunks.append(hunk)
    return at


def _read_line(lines: list[str], at: int, hunk: Hunk) -> int:
    """Add one line of a hunk to its sides; returns the position after it."""
    line = lines[at]
    mark, text = line[:1], line[1:]
    if line in ("\n", "\r\n"):
        # An empty context line whose leading space an editor has cut off.
        mark, text = " ", line
    if mark not in (" ", "+", "-"):
        raise PatchError(
            f"hunk {hunk.number}: line {at + 1} of the diff starts with {mark!r}, expected a space, + or -"
        )
    following = lines[at + 1] if at + 1 < len(lines) else ""
    if following.startswith(_NO_NEWLINE):
        text = text.removesuffix("\n")
        at += 1
    elif not text.endswith("\n"):
        # The diff itself was cut off before its last line end.
        text += "\n"
    if mark != "+":
        hunk.old.append(text)
    if mark != "-":
        hunk.new.append(text)
    return at + 1


def _apply(hunks: list[Hunk], lines: list[str]) -> list[str]:
    result: list[str] = []
    done = drift = 0
    budget = MAX_COMPARISONS
    for hunk in hunks:
        # Without old lines the start names the line after which the new ones go.
        expected = hunk.start - 1 + drift if hunk.old else hunk.start + drift
        place, budget = _find(hunk, lines, done, expected, budget)
        drift += place - expected
        result += lines[done:place]
        result += hunk.new
        done = place + len(hunk.old)
    result += lines[done:]
    if any(not line.endswith("\n") for line in result[:-1]):
        raise PatchError("the diff puts lines after one that has no line end: add the line end in the diff")
    return result


def _find(hunk: Hunk, lines: list[str], lowest: int, expected: int, budget: int) -> tuple[int, int]:
    """Where the hunk's old lines are, nearest to where they should be; and what is left of the budget."""
    highest = len(lines) - len(hunk.old)
    if not hunk.old:
        if lowest <= expected <= highest:
            return expected, budget
        raise PatchError(
            f"hunk {hunk.number} adds lines after line {hunk.start}, but the file has {len(lines)} lines"
        )
    nearest = max(lowest, min(expected, highest))
    for distance in range(max(nearest - lowest, highest - nearest) + 1):
        for place in {nearest - distance, nearest + distance}:
            if lowest <= place <= highest:
                budget -= 1
                if lines[place] == hunk.old[0] and lines[place : place + len(hunk.old)] == hunk.old:
                    return place, budget
        if budget < 0:
            raise PatchError(f"hunk {hunk.number} is not near line {hunk.start}: make a fresh diff")
    raise _mismatch(hunk, lines, expected)


def _mismatch(hunk: Hunk, lines: list[str], expected: int) -> PatchError:
    for offset, wanted in enumerate(hunk.old):
        at = expected + offset
        found = lines[at] if 0 <= at < len(lines) else None
        if found != wanted:
            there = "the end of the file" if found is None else repr(found[:100])
            return PatchError(
                f"hunk {hunk.number} does not fit: line {at + 1} should be {wanted[:100]!r}, found {there}; "
                "make the diff against the current content"
            )
    return PatchError(f"hunk {hunk.number} overlaps the one before it")
