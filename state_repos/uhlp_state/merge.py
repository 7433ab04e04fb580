"""Three-way merge of one text file, by lines."""

from __future__ import annotations

from collections.abc import Sequence

from merge3 import Merge3

from uhlp_core.errors import Conflict
from uhlp_state.patch import split_lines

MAX_SHOWN = 100
"""Characters of a conflicting line that a message repeats."""


def merge_texts(base: str, ours: str, theirs: str) -> str:
    """Both changes to `base` in one text.

    Raises:
        Conflict: both change the same lines differently; the text names the first such place.
    """
    if ours in (base, theirs):
        return theirs
    if theirs == base:
        return ours
    sides = split_lines(base), split_lines(ours), split_lines(theirs)
    merged: list[str] = []
    for group in Merge3(*sides).merge_groups():
        if group[0] == "conflict":
            _, _, mine, other = group
            raise Conflict(
                f"line {len(merged) + 1} has been changed to {_first(other)} meanwhile, where this change "
                f"wants {_first(mine)}: read the file again and make the change anew"
            )
        merged += group[1]
    if any(not line.endswith("\n") for line in merged[:-1]):
        raise Conflict("both changes add lines at the end of a file without a line end: read it again")
    return "".join(merged)


def _first(lines: Sequence[str]) -> str:
    return repr(lines[0].rstrip("\n")[:MAX_SHOWN]) if lines else "nothing"
