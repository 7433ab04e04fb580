"""Commits that the command line makes: of valid trees, in the operator's name, by compare-and-swap only."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from uhlp_cli.output import clean
from uhlp_cli.repos import git
from uhlp_core.errors import Conflict, UhlpError
from uhlp_core.ids import PRODUCTION_BRANCH
from uhlp_state.commits import PLATFORM_AUTHOR, Author, move_branch, stage_commit

if TYPE_CHECKING:
    from uhlp_state.tree_source import TreeSource

CLONES = "A clone needs `git pull --rebase` before its next push."
"""What people are told of a commit that did not come from one."""


def operator() -> Author:
    """Who runs the command, as Git would name them in a commit; the platform where Git knows no name."""
    told = subprocess.run(["git", "var", "GIT_AUTHOR_IDENT"], capture_output=True, text=True)
    if told.returncode:
        return PLATFORM_AUTHOR
    return Author.parse(told.stdout.rpartition(">")[0])


def refuse_invalid(repo: Path, source: "TreeSource", commit: str, tree: str, what: str) -> None:
    """Raise UhlpError for a tree that a push would be refused for today; `what` is how it begins."""
    from uhlp_state.parse_cache import ParseCache
    from uhlp_state.receive import check_commit, current_platform

    platform = current_platform(repo.parent)
    if problems := check_commit(source, repo.stem, commit, tree, ParseCache(), platform):
        listed = "\n".join(clean(problem.format()) for problem in problems)
        raise UhlpError(f"{what}, so nothing was changed:\n{listed}", code="INVALID_STATE")


def commit_files(repo: Path, parent: str | None, files: Mapping[str, bytes], message: str) -> str:
    """Commit changed files on top of `parent` and move main there; raises Conflict if main is elsewhere."""
    staged = stage_commit(repo, parent, files, message, operator())
    staged.write(repo)
    return _move_main(repo, parent, staged.commit)


def commit_tree(repo: Path, parent: str, tree: str, message: str) -> str:
    """Commit a tree that the repo has on top of `parent`; raises Conflict if main is elsewhere."""
    author = operator()
    identity = {
        "GIT_AUTHOR_NAME": author.name,
        "GIT_AUTHOR_EMAIL": author.address,
        "GIT_COMMITTER_NAME": PLATFORM_AUTHOR.name,
        "GIT_COMMITTER_EMAIL": PLATFORM_AUTHOR.address,
    }
    commit = git(repo, "commit-tree", tree, "-p", parent, stdin=message, environment=os.environ | identity)
    return _move_main(repo, parent, commit)


def _move_main(repo: Path, old: str | None, new: str) -> str:
    if not move_branch(repo, PRODUCTION_BRANCH, old, new):
        raise Conflict(
            f"{PRODUCTION_BRANCH} of {repo.stem} moved meanwhile, so nothing was changed; "
            f"look at `uhlp status {repo.stem}` and try again"
        )
    return new
