"""Bring each deployment's registry document into line with the head of its branch.

Reads Git, writes `RegistryDoc` and exported trees. Knows nothing of sandboxes and routes; it only notes in
Git which commit they brought into force (`refs/uhlp/applied/<branch>`), so that the last good revision
survives the loss of Redis.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dulwich.file import FileLocked

from uhlp_core import keys, store, wake
from uhlp_core.errors import UhlpError
from uhlp_core.home import Home
from uhlp_core.ids import PLATFORM_APP, PRODUCTION_BRANCH, Deployment, is_app_id
from uhlp_core.store import Store
from uhlp_reconcilers.outcome import Done, Gone, Outcome, Stalled
from uhlp_state.applied import applied_revision, note_applied
from uhlp_state.documents import RegistryDoc, Revision
from uhlp_state.export import export_tree, remove_tree
from uhlp_state.git_objects import open_objects
from uhlp_state.git_repo import heads, read_ref
from uhlp_state.git_tree import GitTree, read_commit
from uhlp_state.parse_cache import ParseCache
from uhlp_state.platform import PlatformDefinition, validate_platform
from uhlp_state.problems import Code, Problem
from uhlp_state.validate import validate

log = logging.getLogger(__name__)

MAX_VANISHED_SHARE = 0.5
"""If more than this share of the apps disappears between two looks, it is taken for a mistake."""

SPARED = 2
"""So many apps may disappear at once however few there are."""


@dataclass
class KnownApp:
    """What was last read of an app's repo."""

    branches: dict[str, str] = field(default_factory=dict)
    """Branch → head commit, of every branch that is served."""
    deployments: dict[str, str] = field(default_factory=dict)
    """Deployment id → branch."""


class Registry:
    """The registry reconciler: one key is one deployment."""

    name = "registry"

    def __init__(self, home: Home, redis: Store, cache: ParseCache) -> None:
        self._home = home
        self._redis = redis
        self._cache = cache
        self._apps: dict[str, KnownApp] = {}
        self._docs: dict[str, RegistryDoc] = {}
        self.platform = PlatformDefinition()
        self.enqueue: Callable[[str], None] = lambda deployment: None

    # -- what exists -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take over what an earlier process had published, so that deletions meanwhile are noticed."""
        await asyncio.to_thread(self._discard_trees_of_another_boot)
        self.platform = await asyncio.to_thread(self._read_platform)
        published = [Deployment.parse(raw.decode()) for raw in await self._redis.smembers(keys.DEPLOYMENTS)]
        for deployment in published:
            self._apps.setdefault(deployment.app, KnownApp()).deployments.setdefault(deployment.id, "")
        present = await asyncio.to_thread(self._present_apps)
        self._check_mass_deletion(present)
        for app in self._apps.keys() | present:
            try:
                await self.discover(app)
            except (UhlpError, OSError) as error:  # One repo out of order must not hold up all others.
                log.error("cannot read the repo: %s", error, extra={"app": app})

    async def discover(self, app: str) -> list[str]:
        """Re-read an app's branches and enqueue what changed; returns all deployments it has now.

        Raises OSError or UhlpError where the repo is there but cannot be read: that changes nothing.
        """
        if app == PLATFORM_APP:
            await self._discover_platform()
            return [PLATFORM_APP]
        if not is_app_id(app):
            return []
        before = self._apps.get(app, KnownApp())
        now = await asyncio.to_thread(self._read_app, app)
        if now is None:
            self._check_mass_deletion(await asyncio.to_thread(self._present_apps))
            now = KnownApp()
        self._apps[app] = now
        for deployment, branch in now.deployments.items():
            if before.branches.get(branch) != now.branches[branch]:
                self.enqueue(deployment)
        for deployment in before.deployments.keys() - now.deployments.keys():
            self.enqueue(deployment)
        if not now.deployments:
            self._apps.pop(app)
        return list(now.deployments)

    def _discard_trees_of_another_boot(self) -> None:
        """Exported files are not forced to the disk; after a power cut they may be empty. Git has them."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        marker = self._home.trees / ".boot"
        if marker.exists() and marker.read_text() != boot:
            for tree in self._home.trees.glob("*/*"):
                remove_tree(tree)
        marker.write_text(boot)

    def _present_apps(self) -> set[str]:
        return {path.stem for path in self._home.repos.iterdir() if path.suffix == ".git"}

    def _check_mass_deletion(self, present: Iterable[str]) -> None:
        """Refuse to believe that most apps vanished at once (an unmounted disk looks just like that)."""
        gone = self._apps.keys() - set(present)
        if len(gone) > max(SPARED, MAX_VANISHED_SHARE * len(self._apps)):
            raise OSError(
                f"{len(gone)} of {len(self._apps)} apps are missing from {self._home.repos} at once; nothing "
                "is removed. Restore the folder, or delete apps with `uhlp app delete`"
            )

    def _read_app(self, app: str) -> KnownApp | None:
        """The app's served branches; None if the repo does not exist."""
        repo = self._home.repo(app)
        if not repo.is_dir():
            self._home.repos.stat()  # Raises if the whole folder is out of reach.
            return None
        known = KnownApp()
        for branch, commit in sorted(heads(repo).items()):
            deployment = Deployment.of_branch(app, branch)
            if deployment is None:
                continue
            if deployment.id in known.deployments:
                log.warning(
                    "branch %s is not served: its name is taken by %s",
                    branch,
                    known.deployments[deployment.id],
                    extra={"app": app},
                )
                continue
            known.branches[branch] = commit
            known.deployments[deployment.id] = branch
        return known

    async def _discover_platform(self) -> None:
        definition = await asyncio.to_thread(self._read_platform)
        if definition != self.platform:
            self.platform = definition
            for app in self._apps.values():
                for deployment in app.deployments:
                    self.enqueue(deployment)

    def _read_platform(self) -> PlatformDefinition:
        """The platform repo's definition; the last one known while the newest commit is not valid."""
        repo = self._home.repo(PLATFORM_APP)
        head = read_ref(repo, PRODUCTION_BRANCH) if repo.is_dir() else None
        if head is None:
            return PlatformDefinition()
        definition, problems = validate_platform(GitTree.at(repo, head))
        if definition is None:
            log.error("platform repo: %s", problems[0].format(), extra={"commit": head})
            return self.platform
        return definition

    # -- one deployment --------------------------------------------------------------------------------

    async def reconcile(self, key: str, pressure: asyncio.Event) -> Outcome:
        deployment = Deployment.parse(key)
        known = self._apps.get(deployment.app, KnownApp())
        branch = known.deployments.get(key)
        if branch is None:
            await self._withdraw(key)
            return Gone()
        head = known.branches[branch]
        suspended = any(item.app_id == deployment.app for item in self.platform.suspended_apps)
        problems, files, revisions, forbidden = await asyncio.to_thread(
            self._revisions, deployment.app, branch, head
        )
        doc = RegistryDoc(
            deployment=key,
            app=deployment.app,
            branch=branch,
            head=head,
            suspended=suspended,
            on_demand=deployment.preview is not None,
            revisions=revisions,
            forbidden=forbidden,
        )
        await self._publish(doc)
        if problems:
            first, more = problems[0], len(problems) - 1
            raise Stalled(
                "InvalidState",
                first.format() + (f"\n(and {more} more problems)" if more else ""),
                attempted=head,
                applied=revisions[0].commit if revisions else None,
            )
        return Done("Validated", f"{files} files", attempted=head, applied=head)

    def _revisions(
        self, app: str, branch: str, head: str
    ) -> tuple[Sequence[Problem], int, tuple[Revision, ...], bool]:
        """The head's problems and number of files, and the revisions wanted, exported.

        Wanted are the head if it is valid, then the last good revision if that is another one. Also whether
        the last good one has come to be forbidden.
        """
        repo = self._home.repo(app)
        problems, files, newest = self._revision(repo, app, head)
        revisions = [newest] if newest else []
        last_good = applied_revision(repo, branch)
        objections = problems
        if last_good and last_good != head:
            objections, _, older = self._revision(repo, app, last_good)
            revisions += [older] if older else []
        forbidden = not revisions and any(problem.code == Code.MOUNT_NOT_ALLOWED for problem in objections)
        return problems, files, tuple(revisions), forbidden

    def _revision(self, repo: Path, app: str, commit: str) -> tuple[Sequence[Problem], int, Revision | None]:
        tree = read_commit(open_objects(repo), commit).tree
        source = GitTree(open_objects(repo), tree)
        validation = validate(
            source, app, cache=self._cache, platform=self.platform, commit=commit, tree=tree
        )
        files = len(source.entries())
        if validation.snapshot is None:
            return validation.problems, files, None
        export_tree(repo, tree, self._home.trees / app / tree)
        return (), files, Revision(commit, tree, validation.snapshot)

    async def _publish(self, doc: RegistryDoc) -> None:
        published = self._docs.get(doc.deployment)
        if published == doc and await self._redis.exists(keys.registry(doc.deployment)):
            return
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.registry(doc.deployment), store.dumps(doc.to_json()))
            pipe.sadd(keys.DEPLOYMENTS, doc.deployment)
            wake.nudge(pipe, "registry", doc.deployment)
            await pipe.execute()
        self._docs[doc.deployment] = doc

    async def _withdraw(self, deployment: str) -> None:
        """The branch is gone: tell everybody. Each daemon then removes what is its own."""
        self._docs.pop(deployment, None)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.registry(deployment))
            pipe.srem(keys.DEPLOYMENTS, deployment)
            wake.nudge(pipe, "registry", deployment)
            await pipe.execute()

    async def note_live(self, deployment: str, commit: str) -> None:
        """Record in Git that a commit is in force."""
        parsed = Deployment.parse(deployment)
        branch = self._apps.get(parsed.app, KnownApp()).deployments.get(deployment)
        if branch:
            try:
                await asyncio.to_thread(note_applied, self._home.repo(parsed.app), branch, commit)
            except (OSError, FileLocked) as error:  # The next report of this deployment tries again.
                log.warning("cannot note the last good revision: %s", error, extra={"app": parsed.app})
