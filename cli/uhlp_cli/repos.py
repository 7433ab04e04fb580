"""The state repos in the data folder, read with plain `git`: which apps there are, and their heads."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uhlp_core.errors import NotFound, UhlpError
from uhlp_core.home import Home
from uhlp_core.ids import PLATFORM_APP, PRODUCTION_BRANCH, Deployment, is_app_id


@dataclass(frozen=True, slots=True)
class Head:
    """The newest commit of one branch that is served."""

    deployment: Deployment
    branch: str
    commit: str
    subject: str


def git(repo: Path, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> str:
    """The output of a git command without the last newline; raises UhlpError with git's own words."""
    done = subprocess.run(
        ["git", "--git-dir", str(repo), *arguments],
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise UhlpError(f"git {arguments[0]} in {repo} failed: {said}", code="GIT_FAILED")
    return done.stdout.rstrip("\n")


def app_names(home: Home) -> list[str]:
    """The apps in this data folder, sorted; without the platform's own repo."""
    return sorted(repo.stem for repo in home.repos.glob("*.git") if is_app_id(repo.stem))


def existing_app(home: Home, app: str) -> Path:
    """The app's repo; raises NotFound with the names that exist."""
    if app != PLATFORM_APP and app not in app_names(home):
        known = ", ".join(app_names(home)) or "none yet: `uhlp app create NAME` makes one"
        raise NotFound(f"there is no app {app!r} in {home.root}; apps: {known}", code="APP_NOT_FOUND")
    return home.repo(app)


def heads(home: Home, app: str) -> list[Head]:
    """The newest commit of every branch of an app that is served, production first."""
    listed = git(
        home.repo(app),
        "for-each-ref",
        "--format=%(refname:lstrip=2)%00%(objectname)%00%(contents:subject)",
        "refs/heads/",
    )
    found = []
    for text in listed.splitlines():
        branch, commit, subject = text.split("\0")
        if deployment := Deployment.of_branch(app, branch):
            found.append(Head(deployment, branch, commit, subject))
    return sorted(found, key=lambda head: (head.branch != PRODUCTION_BRANCH, head.branch))
