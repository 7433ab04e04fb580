"""The judgement of a push: which refs may move, whether their trees are valid, and what the pusher reads.

Works on objects that are still in quarantine, in whichever process asks (the registry daemon, or the hook
itself when the daemon is down). Moves nothing and knows no sockets.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uhlp_core.errors import InvalidInput, NotFound, UhlpError
from uhlp_core.ids import PLATFORM_APP, PRODUCTION_BRANCH
from uhlp_state.git_objects import Objects, open_objects, open_quarantine
from uhlp_state.git_repo import read_ref
from uhlp_state.git_tree import GitTree, is_ancestor, read_commit
from uhlp_state.parse_cache import ParseCache
from uhlp_state.platform import PlatformDefinition, validate_platform
from uhlp_state.problems import Problem
from uhlp_state.tree_source import TreeSource
from uhlp_state.validate import validate

MAX_PROBLEMS_SHOWN = 50
"""Per push: what fits on two screens. The rest comes after these are mended."""
MAX_LINE = 400
"""Characters of one line to the pusher."""
MAX_UPDATES = 1000
"""Refs moved by one push; each branch is validated."""
ZERO_ID = "0" * 40
"""Git's way to say that a ref is not there."""


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """One line of what Git hands to the hook."""

    old: str
    new: str
    ref: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a push is taken, and what the pusher is told."""

    accepted: bool
    lines: list[str]


def judge(
    repo: Path,
    updates: Sequence[RefUpdate],
    quarantine: Path | None,
    alternates: Sequence[Path],
    cache: ParseCache,
    platform: PlatformDefinition | None,
) -> Judgement:
    """Judge all ref updates of one push together: if one is refused, none is taken.

    `platform` is None where the platform repo has no commit yet; its defaults apply then.
    """
    app = repo.name.removesuffix(".git")
    if len(updates) > MAX_UPDATES:
        return _refusal([f"✘ {len(updates)} refs in one push: push at most {MAX_UPDATES} at a time"])
    objects = open_quarantine(repo, quarantine, alternates)
    taken: list[str] = []
    refused: list[str] = []
    room = MAX_PROBLEMS_SHOWN
    for update in updates:
        try:
            rule = _broken_rule(objects, update)
            if rule:
                refused.append(rule)
            elif update.new != ZERO_ID and (branch := _branch(update.ref)) is not None:
                started = time.perf_counter()
                commit = read_commit(objects, update.new)
                source = GitTree(objects, commit.tree)
                problems = check_commit(source, app, commit.commit, commit.tree, cache, platform)
                if problems:
                    refused += _describe(branch, problems, room)
                    room = max(0, room - len(problems))
                else:
                    files, spent = len(source.entries()), (time.perf_counter() - started) * 1000
                    taken.append(
                        f"✔ validated {branch} ({files} file{'' if files == 1 else 's'}) in {spent:.0f} ms"
                    )
        except UhlpError as error:
            refused.append(f"✘ {update.ref}: {error}")
    if refused:
        return _refusal(refused)
    return Judgement(True, [_plain(line) for line in taken])


def check_commit(
    source: TreeSource,
    app: str,
    commit: str,
    tree: str,
    cache: ParseCache,
    platform: PlatformDefinition | None,
) -> Sequence[Problem]:
    """Every problem of a commit's tree: of an app, or of the platform's own repo."""
    if app == PLATFORM_APP:
        return validate_platform(source, cache=cache)[1]
    return validate(source, app, cache=cache, platform=platform, commit=commit, tree=tree).problems


def current_platform(repos: Path) -> PlatformDefinition | None:
    """What the platform's repo says now; None if it has no commit yet, or one that is not valid."""
    repo = repos / f"{PLATFORM_APP}.git"
    try:
        head = read_ref(repo, PRODUCTION_BRANCH)
    except NotFound:
        return None
    if head is None:
        return None
    objects = open_objects(repo)
    return validate_platform(GitTree(objects, read_commit(objects, head).tree))[0]


def _branch(ref: str) -> str | None:
    return ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else None


def _broken_rule(objects: Objects, update: RefUpdate) -> str | None:
    """What forbids the update regardless of content, with what to do instead; None if nothing does."""
    if not update.ref.startswith(("refs/heads/", "refs/tags/")):
        return f"✘ {update.ref}: only branches (refs/heads/…) and tags (refs/tags/…) can be pushed"
    if update.ref != f"refs/heads/{PRODUCTION_BRANCH}":
        return None
    if update.new == ZERO_ID:
        return (
            f"✘ {PRODUCTION_BRANCH} is what is served in production, so it cannot be deleted. "
            "To take the app down, use `uhlp app delete`"
        )
    if update.old != ZERO_ID and not is_ancestor(objects, update.old, update.new):
        return (
            f"✘ {PRODUCTION_BRANCH} cannot be rewritten: {update.old:.7} would be lost. To roll back, use "
            "`git revert` and push; otherwise `git pull --rebase` and push again"
        )
    return None


def _describe(branch: str, problems: Sequence[Problem], room: int) -> list[str]:
    count = len(problems)
    files = len({problem.file for problem in problems})
    lines = [
        f"✘ {branch}: {count} problem{'' if count == 1 else 's'} in {files} file{'' if files == 1 else 's'}"
    ]
    for problem in sorted(problems)[:room]:
        lines += ["", *(f"  {line}" for line in problem.format().splitlines())]
    if count > room:
        lines += ["", f"  … and {count - room} more"]
    return lines


def _refusal(lines: Sequence[str]) -> Judgement:
    return Judgement(False, [*(_plain(line) for line in lines), "", "Nothing was changed."])


def _plain(line: str) -> str:
    """One line that is safe on a terminal: names in a push may hold escape sequences, or no text at all."""
    safe = "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
    return safe if len(safe) <= MAX_LINE else safe[: MAX_LINE - 1] + "…"


def parse_updates(text: str) -> list[RefUpdate]:
    """Read what Git writes to a hook's standard input; raises InvalidInput."""
    updates = []
    # Not splitlines(): a branch name may hold characters that Unicode takes for line ends.
    for line in text.removesuffix("\n").split("\n"):
        fields = line.split(" ", 2)
        if len(fields) != 3:
            raise InvalidInput(f"not a ref update: {line[:80]!r}")
        updates.append(RefUpdate(*fields))
    return updates
