"""Every Redis key of the platform. Nobody else spells one (docs/architecture.md says who writes which)."""

DEPLOYMENTS = "uhlp:deployments"
EPOCH = "uhlp:epoch"
"""A random value that is there as long as Redis remembers: another one means that its data was lost."""


def registry(deployment: str) -> str:
    return f"uhlp:registry:{deployment}"


def instances(deployment: str) -> str:
    return f"uhlp:instances:{deployment}"


def quarantine(deployment: str) -> str:
    return f"uhlp:quarantine:{deployment}"


def routes(deployment: str) -> str:
    return f"uhlp:routes:{deployment}"


GATEWAYS = "uhlp:gateways"
"""Sorted set: gateway id → the second until which its last heartbeat counts."""


def acks(deployment: str) -> str:
    return f"uhlp:acks:{deployment}"


def demand(deployment: str) -> str:
    return f"uhlp:demand:{deployment}"


def status(deployment: str) -> str:
    return f"uhlp:status:{deployment}"


def events(app: str) -> str:
    return f"uhlp:events:{app}"


def generation(kind: str) -> str:
    return f"uhlp:generation:{kind}"


def wake(kind: str) -> str:
    return f"uhlp:wake:{kind}"


def runtime(deployment: str, key: str) -> str:
    """Specification 3.3.4: runtime values are namespaced by app; a preview has a namespace of its own."""
    return f"uhlp:runtime:{deployment}:{key}"


def mcp_registration(deployment: str, server: str) -> str:
    """Where an MCP server said that it is; expires with its lease."""
    return f"uhlp:mcp:{deployment}:{server}"


def of_deployment(deployment: str) -> tuple[str, ...]:
    """All that describes a deployment, but not its runtime state: goes when the deployment is gone."""
    return tuple(make(deployment) for make in (registry, instances, quarantine, routes, acks, demand, status))
