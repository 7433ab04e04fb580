"""Notices that a ref of any state repo moved: by file events at once, by polling within a second.

Neither is trusted for what happened: both only say "look at this app again". `git pack-refs` deletes loose
refs without any branch being gone, an event queue can overflow, a ref can be moved by any Git command.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from asyncinotify import Event, Inotify, Mask, Watch

from uhlp_core.errors import UhlpError
from uhlp_state.git_repo import refs_fingerprint

log = logging.getLogger(__name__)

_REFS_CHANGED = Mask.CREATE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.CLOSE_WRITE
_REPOS_CHANGED = Mask.CREATE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE
_POLL_SLICE = 25
"""Repos looked at before other work may run: a poll of a thousand must not delay a push."""


def apps_in(repos: Path) -> list[str]:
    """The apps that have a repo. Raises OSError if the folder cannot be read: that is not "no apps"."""
    return sorted(entry.name.removesuffix(".git") for entry in repos.iterdir() if entry.name.endswith(".git"))


class RefPoll:
    """Compares each repo's ref files with what they were at the last look."""

    def __init__(self, repos: Path, changed: Callable[[str], None]) -> None:
        self._repos = repos
        self._changed = changed
        self._seen: dict[str, object] = {}

    async def run(self, interval: float) -> None:
        """Poll for ever, every `interval` seconds."""
        while True:
            try:
                await self.look()
            except OSError as error:
                log.warning("cannot read %s, keeping what is known: %s", self._repos, error)
            await asyncio.sleep(interval)

    async def look(self) -> None:
        """One pass over all repos."""
        apps = apps_in(self._repos)
        for number, app in enumerate(apps):
            if number % _POLL_SLICE == _POLL_SLICE - 1:
                await asyncio.sleep(0)
            try:
                now: object = refs_fingerprint(self._repos / f"{app}.git")
            except (UhlpError, OSError) as error:
                now = str(error)
            if self._seen.get(app) != now:
                self._seen[app] = now
                self._changed(app)
        for app in self._seen.keys() - set(apps):
            del self._seen[app]
            self._changed(app)


class RefEvents:
    """Turns file events in the repos' ref folders into "look again"."""

    def __init__(self, repos: Path, changed: Callable[[str], None]) -> None:
        self._repos = repos
        self._changed = changed
        self._watches: dict[str, dict[Path, Watch]] = {}

    async def run(self) -> None:
        """Watch for ever; ends with a warning where the kernel gives no (more) watches: polling goes on."""
        try:
            with Inotify() as inotify:
                inotify.add_watch(self._repos, _REPOS_CHANGED)
                for app in apps_in(self._repos):
                    self._add(inotify, app)
                async for event in inotify:
                    self._handle(inotify, event)
        except OSError as error:
            log.warning("no file events (%s); changes are found by polling", error)

    def _handle(self, inotify: Inotify, event: Event) -> None:
        if event.watch is None or event.name is None:
            if event.mask & Mask.Q_OVERFLOW:  # Events were lost: anything may have changed.
                for app in self._watches:
                    self._changed(app)
        elif event.watch.path == self._repos:
            if event.name.suffix == ".git":
                app = event.name.stem
                if event.mask & (Mask.DELETE | Mask.MOVED_FROM):
                    self._forget(inotify, app)
                else:
                    self._add(inotify, app)
                self._changed(app)
        elif event.name.suffix != ".lock":
            app = event.watch.path.relative_to(self._repos).parts[0].removesuffix(".git")
            if event.mask & Mask.ISDIR:
                self._add(inotify, app)
            self._changed(app)

    def _add(self, inotify: Inotify, app: str) -> None:
        """Watch where an app's refs lie: the branch folders, and the repo itself for `packed-refs`."""
        repo = self._repos / f"{app}.git"
        heads = repo / "refs" / "heads"
        watches = self._watches.setdefault(app, {})
        with contextlib.suppress(FileNotFoundError):  # It may vanish while we look; that is an event too.
            for folder in (repo, heads, *(path for path in heads.rglob("*") if path.is_dir())):
                if folder.is_dir() and (folder not in watches or folder not in (repo, heads)):
                    watches[folder] = inotify.add_watch(folder, _REFS_CHANGED)

    def _forget(self, inotify: Inotify, app: str) -> None:
        for watch in self._watches.pop(app, {}).values():
            with contextlib.suppress(OSError):  # The kernel drops the watch of a deleted folder by itself.
                inotify.rm_watch(watch)
