"""What the daemons report about each deployment, gathered from Redis and folded into one view."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uhlp_core.ids import Deployment
from uhlp_core.status import Conditions, Report, conditions

if TYPE_CHECKING:
    from uhlp_core.store import Store


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """One deployment at one moment."""

    deployment: Deployment
    conditions: Conditions
    instances: tuple[dict[str, Any], ...]
    """The `InstanceDoc`s, sorted by pool and instance."""
    usage: dict[str, dict[str, Any]]
    """The `UsageDoc`s by instance; none of an instance that was not looked at yet."""
    suspended: bool

    @property
    def word(self) -> str:
        """The one word for the whole: what a person asks first."""
        now = self.conditions
        if self.suspended:
            return "Suspended"
        if now.stalled:
            return "Stalled"
        if now.reconciling:
            return "Reconciling"
        return "Ready" if now.ready else "Waiting"

    def pools(self) -> dict[str, list[dict[str, Any]]]:
        """The instances by the name of their pool."""
        found: dict[str, list[dict[str, Any]]] = {}
        for instance in self.instances:
            found.setdefault(instance["pool"], []).append(instance)
        return found


async def view(store: "Store", deployment: Deployment) -> DeploymentView:
    """Read one deployment."""
    from uhlp_core import keys
    from uhlp_core.store import read, read_hash

    reports = await read_hash(store, keys.status(deployment.id))
    instances = await read_hash(store, keys.instances(deployment.id))
    usage = await read_hash(store, keys.usage(deployment.id))
    registry = await read(store, keys.registry(deployment.id)) or {}
    return DeploymentView(
        deployment,
        conditions({name: Report.from_json(document) for name, document in reports.items()}),
        tuple(sorted(instances.values(), key=lambda found: (found["pool"], found["instance"]))),
        usage,
        bool(registry.get("suspended")),
    )


async def known(store: "Store") -> list[Deployment]:
    """Every deployment that the registry knows."""
    from uhlp_core import keys

    return [Deployment.parse(name.decode()) for name in await store.smembers(keys.DEPLOYMENTS)]
