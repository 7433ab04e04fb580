"""Every Redis key of the platform. Nobody else spells one (docs/architecture.md says who writes which)."""

DEPLOYMENTS = "uhlp:deployments"
EPOCH = "uhlp:epoch"
"""A random value that is there as long as Redis remembers: another one means that its data was lost."""


def registry(deployment: str) -> str:
    return f"uhlp:registry:{deployment}"


def instances(deployment: str) -> str:
    return f"uhlp:instances:{deployment}"


def usage(deployment: str) -> str:
    return f"uhlp:usage:{deployment}"


def quarantine(deployment: str) -> str:
    return f"uhlp:quarantine:{deployment}"


def routes(deployment: str) -> str:
    return f"uhlp:routes:{deployment}"


GATEWAYS = "uhlp:gateways"
"""Sorted set: gateway id → the second until which its last heartbeat counts."""


def acks(deployment: str) -> str:
    return f"uhlp:acks:{deployment}"


def load(deployment: str) -> str:
    """Hash: gateway id → what its pools of the deployment have to do (`LoadDoc`)."""
    return f"uhlp:load:{deployment}"


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


def runtime_use(deployment: str) -> str:
    """Hash: the bytes that a deployment's runtime values take, at most; see `uhlp_state.runtime_quota`."""
    return f"uhlp:runtime-use:{deployment}"


def runtime_recounted(deployment: str) -> str:
    """There while those bytes were counted anew not long ago."""
    return f"uhlp:runtime-recounted:{deployment}"


def llm_usage(app: str, day: str) -> str:
    """What an app used on a day (`2026-01-31`, UTC): a hash of counters."""
    return f"uhlp:llm:usage:{app}:{day}"


def llm_held(app: str) -> str:
    """What attempts under way may still use: a hash by attempt."""
    return f"uhlp:llm:held:{app}"


def llm_settled(app: str, attempt: str) -> str:
    """That an attempt has been counted; expires."""
    return f"uhlp:llm:settled:{app}:{attempt}"


def llm_minute(app: str) -> str:
    """Attempts and tokens of this minute and the one before."""
    return f"uhlp:llm:minute:{app}"


def llm_cache(deployment: str, question: str) -> str:
    """A remembered answer."""
    return f"uhlp:llm:cache:{deployment}:{question}"


def llm_cached(deployment: str) -> str:
    """Sorted set: the keys of a deployment's remembered answers by the time of writing."""
    return f"uhlp:llm:cached:{deployment}"


def mcp_registration(deployment: str, server: str) -> str:
    """Where an MCP server said that it is; expires with its lease."""
    return f"uhlp:mcp:{deployment}:{server}"


def of_deployment(deployment: str) -> tuple[str, ...]:
    """All that describes a deployment, but not its runtime state: goes when the deployment is gone."""
    described = (registry, instances, usage, quarantine, routes, acks, load, status)
    return tuple(make(deployment) for make in described)


def of_app(app: str) -> tuple[str, ...]:
    """Patterns (for SCAN) of what an app and its previews keep: values, events, and the use of models.

    What describes its deployments is not among it: that goes when Git names them no more.
    """
    deployments = (app, f"{app}@*")
    named = (runtime, llm_cache, mcp_registration)
    single = (runtime_use, runtime_recounted, llm_cached)
    return (
        *(make(deployment, "*") for make in named for deployment in deployments),
        *(make(deployment) for make in single for deployment in deployments),
        *(make(app, "*") for make in (llm_usage, llm_settled)),
        *(make(app) for make in (llm_held, llm_minute, events)),
    )
