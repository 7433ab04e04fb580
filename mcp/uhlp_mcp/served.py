"""What a deployment serves at the moment: the snapshot in its RoutesDoc."""

import time
from dataclasses import dataclass

import orjson

from uhlp_core import keys
from uhlp_core.errors import Unavailable
from uhlp_core.ids import Deployment
from uhlp_core.store import Store
from uhlp_state.snapshot import AppSnapshot

FRESH_SECONDS = 1.0
"""How long a revision is taken to be served without asking: a lost wake-up costs no more than that."""


@dataclass(slots=True)
class _Known:
    raw: bytes
    snapshot: AppSnapshot
    fresh_until: float


class Served:
    """Reads snapshots, once after each wake-up; a document is parsed again only when it has changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, _Known] = {}
        self._doubts = 0

    async def snapshot(self, deployment: str) -> AppSnapshot:
        """Raises Unavailable if nothing of the deployment is served yet, and what Redis raises."""
        known = self._known.get(deployment)
        if known is not None and time.monotonic() < known.fresh_until:
            return known.snapshot
        doubts = self._doubts
        raw: bytes | None = await self._store.get(keys.routes(deployment))
        if raw is None:
            self._known.pop(deployment, None)
            raise Unavailable(f"no revision of {deployment} is served yet; try again in a moment")
        # What was doubted while it was on its way here may be old already.
        fresh_until = time.monotonic() + FRESH_SECONDS if doubts == self._doubts else 0.0
        known = self._known.get(deployment)  # others may have read it meanwhile
        if known is not None and known.raw == raw:
            snapshot = known.snapshot
        else:
            snapshot = AppSnapshot.from_json(orjson.loads(raw)["snapshot"])
        self._known[deployment] = _Known(raw, snapshot, fresh_until)
        return snapshot

    async def governing(self, deployment: str) -> AppSnapshot:
        """The snapshot that says what a deployment may reach outside of its sandboxes: its own, or `main`'s.

        A proposal can be written by the app's own code and is served before anybody has looked at it, so it
        must not give itself programs, servers of others or other policies. Raises as `snapshot` does.
        """
        of = Deployment.parse(deployment)
        return await self.snapshot(of.app if of.is_proposal else deployment)

    def doubt(self, deployment: str | None) -> None:
        """Another revision may be served; None: of any deployment."""
        self._doubts += 1
        for name in self._known if deployment is None else {deployment} & self._known.keys():
            self._known[name].fresh_until = 0.0

    def keep_only(self, deployments: set[str]) -> None:
        """Forget deployments that have no instance any more."""
        for gone in self._known.keys() - deployments:
            del self._known[gone]
