"""`uhlp rollback`: a new commit on main whose tree is that of an earlier one."""

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from uhlp_cli.frame import Command, ExitCode, Invocation
from uhlp_cli.going_live import answer_when_live, wait_options
from uhlp_cli.output import line, short
from uhlp_cli.repos import existing_app, git
from uhlp_core.errors import InvalidInput, NotFound, Unavailable
from uhlp_core.ids import PLATFORM_APP, PRODUCTION_BRANCH

MAX_UNDONE_NAMED = 20
"""Commits that the message names; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rollback will do."""

    head: str
    target: str
    tree: str
    undone: tuple[str, ...]
    """`<short> <subject>` of each commit that it takes back, newest first."""


@click.command("rollback", cls=Command)
@click.argument("app")
@click.option("--to", "revision", metavar="REV", help="A commit, tag or branch; see above for the default.")
@click.option("--message", "-m", metavar="TEXT", help="Why: added to the commit's message.")
@wait_options
@click.pass_obj
def rollback(
    invocation: Invocation,
    app: str,
    revision: str | None,
    message: str | None,
    no_wait: bool,
    timeout: float,
) -> None:
    """Take APP back to an earlier revision: a new commit on main with the old content.

    Without --to: the last revision that served, if the newest commit does not serve; else the nearest
    ancestor with other content. Nothing is rewritten: `git revert` of the new commit undoes it.

    With --json: {app, commit, target, undone, live, message}; live is null with --no-wait.
    """
    from uhlp_cli.committing import CLONES, refuse_invalid
    from uhlp_state.git_tree import GitTree

    repo = existing_app(invocation.home, app)
    plan = _plan(repo, revision)
    target = GitTree.at(repo, plan.target)
    refuse_invalid(repo, target, plan.target, plan.tree, f"{short(plan.target)} is not valid")
    commit = _commit(repo, plan, message)
    if not invocation.json:
        line(f"✔ {short(commit)} on {PRODUCTION_BRANCH}: the content of {short(plan.target)}", fg="green")
        line(CLONES, dim=True)
    document = {"app": app, "commit": commit, "target": plan.target, "undone": list(plan.undone)}
    if no_wait or app == PLATFORM_APP:
        invocation.answer({**document, "live": None, "message": ""}, f"See `uhlp status {app}`.")
        return
    try:
        answer_when_live(invocation, app, commit, timeout, document, "the commit is made")
    except Unavailable as error:
        invocation.report(
            Unavailable(f"the commit is made, but whether it is live is not known: {error}", code=error.code),
            **document,
        )
        sys.exit(ExitCode.NOT_RUNNING)


def _plan(repo: Path, revision: str | None) -> Plan:
    from uhlp_state.applied import applied_revision
    from uhlp_state.git_repo import read_ref

    head = read_ref(repo, PRODUCTION_BRANCH)
    if head is None:
        raise NotFound(f"{repo.stem} has no commit on {PRODUCTION_BRANCH} yet", code="NO_COMMIT")
    if revision is not None:
        target = _resolve(repo, revision)
    else:
        applied = applied_revision(repo, PRODUCTION_BRANCH)
        serving_other = applied is not None and applied != head and _tree(repo, applied) != _tree(repo, head)
        target = applied if applied and serving_other else _earlier(repo, head)
    tree = _tree(repo, target)
    if tree == _tree(repo, head):
        raise InvalidInput(
            f"{PRODUCTION_BRANCH} has the content of {short(target)} already; name another one with --to",
            code="NOTHING_TO_DO",
        )
    listed = git(repo, "log", "--first-parent", "--format=%h %s", f"{target}..{head}", "--")
    return Plan(head, target, tree, tuple(listed.splitlines()))


def _resolve(repo: Path, revision: str) -> str:
    from uhlp_core.errors import UhlpError

    try:
        return git(repo, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except UhlpError:
        raise NotFound(
            f"{repo.stem} has no commit {revision!r}; `git log` in a clone shows what there is",
            code="REVISION_NOT_FOUND",
        ) from None


def _earlier(repo: Path, head: str) -> str:
    """The nearest first-parent ancestor whose tree is not the head's."""
    (_, current), *older = (
        text.split() for text in git(repo, "log", "--first-parent", "--format=%H %T", head, "--").splitlines()
    )
    for commit, tree in older:
        if tree != current:
            return commit
    raise NotFound(
        f"{repo.stem} has no earlier content to go back to; push another commit", code="NOTHING_EARLIER"
    )


def _tree(repo: Path, commit: str) -> str:
    return git(repo, "rev-parse", "--verify", f"{commit}^{{tree}}")


def _commit(repo: Path, plan: Plan, why: str | None) -> str:
    from uhlp_cli.committing import commit_tree

    subject = git(repo, "log", "-1", "--format=%s", plan.target, "--")
    text = f"Rollback to {short(plan.target)}: {subject}\n"
    if why:
        text += f"\n{why}\n"
    if plan.undone:
        text += "\nUndoes:\n" + "".join(f"  {one}\n" for one in plan.undone[:MAX_UNDONE_NAMED])
        if (more := len(plan.undone) - MAX_UNDONE_NAMED) > 0:
            text += f"  and {more} more\n"
    return commit_tree(repo, plan.head, plan.tree, text)
