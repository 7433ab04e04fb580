"""The platform's own repo as the command line changes it: which apps are suspended.

Every change is a commit to `state/platform.yaml` that keeps comments and order.
"""

import contextlib
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from uhlp_cli.committing import commit_files
from uhlp_cli.new_app import create_with_commit
from uhlp_core.errors import Conflict
from uhlp_core.ids import PLATFORM_APP, PRODUCTION_BRANCH
from uhlp_core.settings import Settings
from uhlp_state.commits import file_at, writer_lock
from uhlp_state.git_repo import read_ref
from uhlp_state.platform import PLATFORM_FILE, PlatformDefinition
from uhlp_state.receive import current_platform

ATTEMPTS = 5
"""Tries to commit while others push to the same repo."""

_FIRST_FILES = {
    "README.md": b"""\
# The platform

What holds for all apps is in `state/platform.yaml`: which apps are suspended, quotas, policies, and allowed
images, mounts, programs and MCP servers. A push is validated like an app's, and takes effect at once.
""",
    PLATFORM_FILE: b"""\
# What holds for all apps. Every key is optional: suspendedApps, quotas, allowedImages, allowedMounts,
# allowedCommands, allowedMcpServers, shippedPolicies, policies.
suspendedApps: []
""",
}


def ensure(settings: Settings) -> Path:
    """The platform's repo, made with a first commit if it is missing."""
    repo = settings.home.repo(PLATFORM_APP)
    if not (repo / "HEAD").exists():
        settings.home.create()
        # Somebody else may make it at the same moment.
        with contextlib.suppress(Conflict):
            create_with_commit(settings, PLATFORM_APP, _FIRST_FILES, "Begin the platform's own repo")
    return repo


def suspended(settings: Settings) -> dict[str, str]:
    """The suspended apps with the reason of each."""
    definition = current_platform(settings.home.repos) or PlatformDefinition()
    return {found.app_id: found.reason for found in definition.suspended_apps}


def suspend(settings: Settings, app: str, reason: str) -> str | None:
    """Stop serving an app; returns the commit, None if it was suspended before."""

    def change(entries: list[Any]) -> bool:
        if any(entry["appId"] == app for entry in entries):
            return False
        since = datetime.now(UTC).isoformat(timespec="seconds")
        entries.append({"appId": app, **({"reason": reason} if reason else {}), "since": since})
        return True

    return _edit(settings, change, f"Suspend {app}" + (f": {reason}" if reason else ""))


def resume(settings: Settings, app: str) -> str | None:
    """Serve a suspended app again; returns the commit, None if it was not suspended."""

    def change(entries: list[Any]) -> bool:
        at = next((number for number, entry in enumerate(entries) if entry["appId"] == app), None)
        if at is None:
            return False
        del entries[at]
        return True

    return _edit(settings, change, f"Resume {app}")


def _round_trip() -> YAML:
    """A reader and writer that keeps comments, quotes and long lines, with lists indented as in our files."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _edit(settings: Settings, change: Callable[[list[Any]], bool], message: str) -> str | None:
    """Commit `change` of the list of suspended apps; again from the start if main moved meanwhile."""
    repo = ensure(settings)
    for _ in range(ATTEMPTS):
        with contextlib.suppress(Conflict), writer_lock(repo):
            return _edit_once(repo, change, message)
    raise Conflict(f"{PLATFORM_FILE} of the platform repo is changed all the time; try again")


def _edit_once(repo: Path, change: Callable[[list[Any]], bool], message: str) -> str | None:
    head = read_ref(repo, PRODUCTION_BRANCH)
    yaml = _round_trip()
    document = (yaml.load(file_at(repo, head, PLATFORM_FILE) or b"") if head else None) or {}
    entries = document.get("suspendedApps") or []
    if hasattr(entries, "fa"):
        entries.fa.set_block_style()
    if not change(entries):
        return None
    document["suspendedApps"] = entries
    changed = io.BytesIO()
    yaml.dump(document, changed)
    return commit_files(repo, head, {PLATFORM_FILE: changed.getvalue()}, message)
