"""Packages that code asks for: by name and version only, and those of Node with their lock."""

from __future__ import annotations

from uhlp_state.checks.parts import Files
from uhlp_state.dependencies import LOCK, PACKAGE, dependencies
from uhlp_state.npm_source import parse_package
from uhlp_state.problems import Code, Problem


def check_dependencies(files: Files) -> None:
    """Check the files that name packages."""
    dependencies(files.installable)
    if files.installable(PACKAGE, parse_package) and LOCK not in files:
        message = f"its packages are not locked: {LOCK} is missing"
        remedy = "run `npm install --package-lock-only` in state/ and commit the lock"
        files.problems.append(Problem(PACKAGE, 1, 1, Code.MISSING_FILE, message, remedy))
