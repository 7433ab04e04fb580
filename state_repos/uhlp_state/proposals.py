"""Proposed changes of an app's definition: branches `proposals/<name>/<n>`, until merged or deleted.

What makes them is code that nobody has reviewed, so their number and their length are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uhlp_core.errors import Conflict, NotFound
from uhlp_core.ids import PRODUCTION_BRANCH
from uhlp_state.git_objects import open_objects
from uhlp_state.git_tree import history, is_ancestor

FOLDER = "proposals/"
MAX_OPEN = 50
"""Proposals of one app that wait at the same time: more than anybody reviews, and each is a preview."""
MAX_COMMITS = 100
"""Commits of one proposal: each may add a file of a mebibyte to the repo."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


class TooManyProposals(Conflict):
    """The app's open proposals, or one proposal's commits, are at their limit."""

    code = "TOO_MANY_PROPOSALS"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal to write to: a new one, or one that is open."""

    name: str
    """Of the component that proposes, or of the app."""
    number: int | None = None
    """None for a new one, which gets the next free number."""

    @property
    def prefix(self) -> str:
        """What the branches of this name begin with."""
        return f"{FOLDER}{_NOT_IN_NAMES.sub('-', self.name)}/"

    def branch(self, repo: Path, heads: Mapping[str, str]) -> str:
        """The branch to write to, given all branches of the repo.

        Raises:
            NotFound: there is no such proposal.
            TooManyProposals: it would be one too many, or one commit too many.
        """
        if self.number is None:
            waiting = sum(branch.startswith(FOLDER) for branch in heads)
            if waiting >= MAX_OPEN:
                raise TooManyProposals(
                    f"{waiting} proposals are open already: merge or delete some of the branches {FOLDER}*"
                )
            endings = (branch.removeprefix(self.prefix) for branch in heads if branch.startswith(self.prefix))
            return f"{self.prefix}{max((int(end) for end in endings if end.isdecimal()), default=0) + 1}"
        branch = f"{self.prefix}{self.number}"
        head = heads.get(branch)
        if head is None:
            raise NotFound(f"there is no open proposal {branch}; leave the branch out to make a new one")
        if _commits_ahead(repo, head, heads.get(PRODUCTION_BRANCH)) >= MAX_COMMITS:
            raise TooManyProposals(f"{branch} has {MAX_COMMITS} commits: have it merged, or make a new one")
        return branch


def _commits_ahead(repo: Path, head: str, main: str | None) -> int:
    """How many commits `head` has before it meets `main`, at most MAX_COMMITS."""
    objects = open_objects(repo)
    for count, info in enumerate(history(objects, head, MAX_COMMITS)):
        if main is not None and is_ancestor(objects, info.commit, main):
            return count
    return MAX_COMMITS
