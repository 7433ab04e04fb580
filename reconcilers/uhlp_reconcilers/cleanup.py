"""Removes what Git does not name any more, and keeps repos and logs in shape.

Guarded pruning: everything is first read, an error while reading removes nothing, and what was used lately
stays for a while, so that a rollback finds its tree exported.
"""

import asyncio
import functools
import logging
import stat
import subprocess
import time
from pathlib import Path

import orjson
from dulwich.file import FileLocked

from uhlp_core import keys
from uhlp_core.errors import UhlpError
from uhlp_core.home import Home
from uhlp_core.ids import PRODUCTION_BRANCH, Deployment
from uhlp_core.removal import remove_folder
from uhlp_core.store import Store
from uhlp_state.applied import applied_revision, forget_applied
from uhlp_state.dependencies import read_dependencies
from uhlp_state.export import remove_tree, sweep
from uhlp_state.git_objects import open_objects
from uhlp_state.git_repo import heads
from uhlp_state.git_tree import find_entry, history, read_commit

log = logging.getLogger(__name__)

TREE_GRACE = 600.0
"""Seconds since a tree was exported before it may go: requests of an older revision may still read it."""

KEPT_REVISIONS = 5
"""Newest commits of main whose trees stay exported, so that rolling back to them builds nothing."""

ENVIRONMENT_GRACE = 600.0
"""Seconds that nobody may have wanted an environment before it goes: instances that end still read it."""

ORPHAN_GRACE = 3600.0
"""Seconds before the trees of an app without a repo go, and the files of a preview without a branch."""

MAX_LOG_BYTES = 20 * 1024 * 1024
"""An app's log is rotated past this size; one older file is kept."""

STALE_LOCK = 300.0
"""Git holds a ref's lock for milliseconds; one this old (seconds) belongs to a process that was killed."""

HALF_WRITTEN = 300.0
"""Seconds before an export that never finished is removed."""

GC_SECONDS = 24 * 3600.0
GC_LOOSE_OBJECTS = "500"


class Cleanup:
    """Sweeps the whole data folder; every step works on one app and fails alone."""

    name = "cleanup"

    def __init__(self, home: Home, redis: Store) -> None:
        self._home = home
        self._redis = redis
        self._maintained: dict[str, float] = {}
        self._unwanted: dict[str, float] = {}
        """Environments that no revision names, by when that was first seen."""
        self._gone: dict[Path, float] = {}
        """Folders of previews without a branch, likewise."""

    async def sweep(self) -> None:
        """One pass. Raises OSError if the repos cannot be listed: then nothing is known to be gone."""
        apps = {path.stem for path in self._home.repos.iterdir() if path.suffix == ".git"}
        environments: set[str] | None = set()
        for app in sorted(apps):
            try:
                served = await self._served_trees(app)
                wanted = await asyncio.to_thread(self._clean_app, app, served)
            except (OSError, UhlpError, FileLocked, subprocess.SubprocessError) as error:
                log.warning("left alone: %s", error, extra={"app": app})
                environments = None  # What this app wants is not known, so nothing is known to be unwanted.
            else:
                environments = None if environments is None else environments | wanted
        await asyncio.to_thread(self._clean_orphans, apps)
        if apps and environments is not None:
            await asyncio.to_thread(self._prune_environments, environments)

    async def _served_trees(self, app: str) -> set[str]:
        """Trees that some gateway may be serving now."""
        served = set()
        for raw in await self._redis.smembers(keys.DEPLOYMENTS):
            deployment = raw.decode()
            if Deployment.parse(deployment).app == app:
                document = await self._redis.get(keys.routes(deployment))
                if document:
                    served.add(orjson.loads(document)["tree"])
        return served

    def _clean_app(self, app: str, served: set[str]) -> set[str]:
        """Clean up after one app; returns the environments that its revisions name."""
        repo = self._home.repo(app)
        branches = heads(repo)
        trees = served | self._wanted_trees(repo, branches)
        environments = self._wanted_environments(repo, trees)
        self._prune_trees(app, trees)
        forget_applied(repo, set(branches))
        self._remove_stale_locks(repo)
        self._prune_previews(app, branches)
        self._rotate_log(app)
        self._rotate_audit(app)
        self._maintain(app, repo)
        return environments

    def _wanted_trees(self, repo: Path, branches: dict[str, str]) -> set[str]:
        objects = open_objects(repo)
        wanted = {read_commit(objects, commit).tree for commit in branches.values()}
        for branch in branches:
            if applied := applied_revision(repo, branch):
                wanted.add(read_commit(objects, applied).tree)
        if main := branches.get(PRODUCTION_BRANCH):
            wanted |= {info.tree for info in history(objects, main, KEPT_REVISIONS)}
        return wanted

    def _wanted_environments(self, repo: Path, trees: set[str]) -> set[str]:
        objects = open_objects(repo)

        def read(tree: str, path: str) -> bytes | None:
            mode, blob = find_entry(objects, tree, path) or (0, "")
            return objects.read(blob)[1] if stat.S_ISREG(mode) else None

        return {
            wanted.digest for tree in trees for wanted in read_dependencies(functools.partial(read, tree))
        }

    def _prune_environments(self, wanted: set[str]) -> None:
        """Remove what nobody has wanted for a while, as seen from here and by the sandboxes daemon."""
        found = {path.name for path in self._home.environments.iterdir()}
        now = time.monotonic()
        self._unwanted = {name: self._unwanted.get(name, now) for name in found - wanted}
        for name, since in self._unwanted.items():
            path = self._home.environments / name
            if now - since > ENVIRONMENT_GRACE and _age(path) > ENVIRONMENT_GRACE:
                remove_tree(path)
                log.info("removed the packages %s, which no revision names", name)

    def _prune_trees(self, app: str, wanted: set[str]) -> None:
        folder = self._home.trees / app
        if not folder.is_dir():
            return
        sweep(folder, HALF_WRITTEN)
        for tree in folder.iterdir():
            if not tree.name.startswith(".") and tree.name not in wanted and _age(tree) > TREE_GRACE:
                remove_tree(tree)
                log.info("removed the exported tree %s", tree.name[:7], extra={"app": app})

    def _remove_stale_locks(self, repo: Path) -> None:
        for lock in [*repo.glob("*.lock"), *(repo / "refs").rglob("*.lock")]:
            if _age(lock) > STALE_LOCK:
                lock.unlink(missing_ok=True)
                log.warning(
                    "removed %s, left by a process that was killed", lock.name, extra={"app": repo.stem}
                )

    def _rotate_log(self, app: str) -> None:
        """Copy and truncate: the writers append to the file that they hold open."""
        path = self._home.app_log(app)
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            path.with_name("app.log.1").write_bytes(path.read_bytes())
            with path.open("r+b") as file:
                file.truncate(0)

    def _rotate_audit(self, app: str) -> None:
        """Put a long audit log aside. Nothing of it is removed: that is the operator's to decide."""
        path = self._home.app_log(app).with_name("audit.log")
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            path.rename(path.with_name(f"audit-{moment}.log"))

    def _prune_previews(self, app: str, branches: dict[str, str]) -> None:
        """Remove what previews kept whose branches are gone."""
        alive = {found.id for branch in branches if (found := Deployment.of_branch(app, branch))}
        now = time.monotonic()
        for kept in (self._home.data, self._home.mcp_servers):
            for folder in kept.glob(f"{app}@*"):
                if folder.name in alive:
                    self._gone.pop(folder, None)
                elif now - self._gone.setdefault(folder, now) > ORPHAN_GRACE:
                    remove_folder(folder)
                    del self._gone[folder]
                    log.info("removed the files of a preview without a branch", extra={"app": app})

    def _maintain(self, app: str, repo: Path) -> None:
        """Git's own housekeeping, which pushes do not do (`gc.auto` is 0)."""
        if time.monotonic() - self._maintained.get(app, -GC_SECONDS) < GC_SECONDS:
            return
        self._maintained[app] = time.monotonic()
        command = ["git", "-C", str(repo), "-c", f"gc.auto={GC_LOOSE_OBJECTS}", "gc", "--auto", "--quiet"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if result.returncode:
            log.warning("git gc: %s", result.stderr.strip()[:500], extra={"app": app})

    def _clean_orphans(self, apps: set[str]) -> None:
        """Trees of apps whose repo is gone, once they have been so for a while."""
        if not apps:
            return  # Rather an unreachable folder than no app at all.
        for folder in self._home.trees.iterdir():
            if folder.is_dir() and folder.name not in apps and _age(folder) > ORPHAN_GRACE:
                remove_tree(folder)
                log.info("removed the trees of a deleted app", extra={"app": folder.name})


def _age(path: Path) -> float:
    """Seconds since the path was last changed; 0 if it just vanished."""
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
