"""The first push of an app makes its repo; if nothing is accepted into it, it goes again.

A push over HTTP is two requests or three, and the repo must be there from the first on.
"""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from uhlp_core.errors import InvalidInput, NotFound
from uhlp_core.ids import PLATFORM_APP, check_app_id
from uhlp_core.settings import Settings
from uhlp_state.git_repo import create_repo, heads
from uhlp_state.platform import PlatformDefinition
from uhlp_state.receive import current_platform

GRACE_SECONDS = 10.0
"""How long an empty repo waits for the next request of its first push."""
DEFAULT_PLATFORM = PlatformDefinition()

_log = logging.getLogger(__name__)


class NewApps:
    """Repos that this process has made and that have no branch yet."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = settings.home
        self._last_used: dict[str, float] = {}
        self._in_use: dict[str, int] = {}

    def create(self, app: str) -> bool:
        """Make the repo of a new app; False if there is one. Blocking.

        Raises:
            InvalidInput: the name cannot be an app's, or the platform holds as many apps as it may.
        """
        repo = self._home.repo(app)
        if app != PLATFORM_APP:
            check_app_id(app)
            if (repo / "HEAD").exists():
                return False
            platform = current_platform(self._home.repos) or DEFAULT_PLATFORM
            most = platform.quotas.max_apps
            if self._count_apps() >= most:
                raise InvalidInput(
                    f"the platform holds {most} apps, as many as it may: delete one, or raise "
                    "quotas.maxApps in the platform repo",
                    code="QUOTA_EXCEEDED",
                )
        created = create_repo(repo, self._home.hooks, self._settings.max_push_bytes)
        if created:
            self._last_used[app] = time.monotonic()
        return created

    def _count_apps(self) -> int:
        return sum(repo.stem != PLATFORM_APP for repo in self._home.repos.glob("*.git"))

    @contextlib.contextmanager
    def using(self, app: str) -> Iterator[None]:
        """Keep an app's repo while a request works on it."""
        self._in_use[app] = self._in_use.get(app, 0) + 1
        try:
            yield
        finally:
            self._in_use[app] -= 1
            if not self._in_use[app]:
                del self._in_use[app]
            if app in self._last_used:
                self._last_used[app] = time.monotonic()

    async def sweep_forever(self) -> None:
        """Remove repos whose first push was refused, or never came."""
        while True:
            await asyncio.sleep(GRACE_SECONDS / 4)
            limit = time.monotonic() - GRACE_SECONDS
            for app in [app for app, used in self._last_used.items() if used < limit]:
                if app not in self._in_use:
                    del self._last_used[app]
                    try:
                        await asyncio.to_thread(self._remove_if_empty, app)
                    except OSError:
                        _log.warning("an empty repo could not be removed", extra={"app": app}, exc_info=True)

    def _remove_if_empty(self, app: str) -> None:
        repo = self._home.repo(app)
        aside = repo.with_name(f".empty-{app}-{time.time_ns()}")
        with contextlib.suppress(NotFound):
            if _has_refs(repo):
                return
            # Moved first, then looked at again: a push by path may come at any moment.
            repo.rename(aside)
            if _has_refs(aside):
                aside.rename(repo)
                return
            shutil.rmtree(aside)
            _log.info("removed the repo of a first push that was not accepted", extra={"app": app})


def _has_refs(repo: Path) -> bool:
    return bool(heads(repo)) or any((repo / "refs" / "tags").iterdir())
