"""Make a new app: a state repo that has its first commit, or is not there at all."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from uhlp_cli.committing import commit_files
from uhlp_cli.repos import app_names
from uhlp_core.errors import Conflict, UhlpError
from uhlp_core.ids import check_app_id
from uhlp_core.settings import Settings
from uhlp_hooks.install import install_hooks
from uhlp_state.git_repo import create_repo
from uhlp_state.platform import PlatformDefinition
from uhlp_state.receive import current_platform


def create_app(settings: Settings, app: str, files: Mapping[str, bytes], message: str) -> str:
    """Create the app with `files` (by path) as its first commit on main; returns the commit.

    Raises InvalidInput for a name that no app may have, Conflict if the app exists or the platform has as
    many apps as it allows.
    """
    check_app_id(app)
    home = settings.home
    home.create()
    quotas = (current_platform(home.repos) or PlatformDefinition()).quotas
    if len(app_names(home)) >= quotas.max_apps:
        raise Conflict(
            f"the platform already has {quotas.max_apps} apps, as many as it allows; delete one, or raise "
            "quotas.maxApps in the platform repo",
            code="QUOTA_EXCEEDED",
        )
    return create_with_commit(settings, app, files, message)


def create_with_commit(settings: Settings, name: str, files: Mapping[str, bytes], message: str) -> str:
    """Create `repos/<name>.git` with one commit on main; raises Conflict if it exists."""
    home = settings.home
    repo = home.repo(name)
    # Before the repo: from the moment that it exists, a push to it must be validated.
    install_hooks(home, settings.push_wait_seconds)
    if not create_repo(repo, home.hooks, settings.max_push_bytes):
        raise Conflict(f"{name!r} already exists; its repo is {repo}", code="APP_EXISTS")
    try:
        return commit_files(repo, None, files, message)
    except (UhlpError, OSError):
        shutil.rmtree(repo, ignore_errors=True)
        raise


def read_folder(folder: Path) -> dict[str, bytes]:
    """The regular files below a folder by their path in it, as `create_app` takes them."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
