"""What a deployment serves at the moment: the snapshot in its RoutesDoc."""

import orjson

from uhlp_core import keys
from uhlp_core.errors import Unavailable
from uhlp_core.store import Store
from uhlp_state.snapshot import AppSnapshot


class Served:
    """Reads snapshots; a document is parsed again only when it has changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parsed: dict[str, tuple[bytes, AppSnapshot]] = {}

    async def snapshot(self, deployment: str) -> AppSnapshot:
        """Raises Unavailable if nothing of the deployment is served yet."""
        raw: bytes | None = await self._store.get(keys.routes(deployment))
        if raw is None:
            self._parsed.pop(deployment, None)
            raise Unavailable(f"no revision of {deployment} is served yet; try again in a moment")
        known = self._parsed.get(deployment)
        if known is None or known[0] != raw:
            known = (raw, AppSnapshot.from_json(orjson.loads(raw)["snapshot"]))
            self._parsed[deployment] = known
        return known[1]

    def keep_only(self, deployments: set[str]) -> None:
        """Forget deployments that have no instance any more."""
        for gone in self._parsed.keys() - deployments:
            del self._parsed[gone]
