"""What one deployment serves: an immutable table, built away from the requests and swapped in whole.

Everything that is the same for each request of a component is prepared here, down to the JSON bytes of the
`/execute` context (specification 2.4) and the children of the metrics.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import orjson

from uhlp_core.home import Home
from uhlp_core.ids import Deployment
from uhlp_gateway.lanes import PoolLimits
from uhlp_gateway.metrics import ComponentMetrics, component_metrics
from uhlp_gateway.schemas import SchemaCheck
from uhlp_state.documents import Lane, RoutesDoc
from uhlp_state.json_schema.check_pool import CheckPool
from uhlp_state.model import ApiKeyDefinition, ComponentDefinition, PoolDefinition
from uhlp_state.model.components import HandlerType
from uhlp_state.routes import RoutePattern, RouteTable
from uhlp_state.snapshot import AppSnapshot, UiFile

NO_COMPONENT = "-"
"""Label of requests that reach no component: static files, unknown paths."""

STATE_CONFIG = {
    "type": "mcp_tool",
    "readTool": "core.state.getDefinitionFileContent",
    "writeTool": "core.state.applyDefinitionDiff",
}


@dataclass(frozen=True, slots=True)
class Component:
    """A component as the gateway sees it."""

    id: str
    deployment: str
    handler_type: HandlerType
    pool: str
    """The lanes that take its requests; see `pool_key`."""
    timeout: float
    """Seconds that its handler may run."""
    context: bytes
    """The context's JSON without its opening brace: per request only what varies is put before it."""
    permission: str | None
    """What the key of a request over HTTP must permit; None lets everybody in."""
    stream: bool
    """Whether it answers as server-sent events where the client takes them."""
    request_schema: SchemaCheck | None
    response_schema: SchemaCheck | None
    metrics: ComponentMetrics

    def limited_to(self, seconds: float) -> Self:
        """The same component with a shorter timeout, for one call."""
        context = orjson.loads(b"{" + self.context)
        context["timeoutMs"] = round(seconds * 1000)
        return replace(self, timeout=seconds, context=orjson.dumps(context)[1:])

    def streaming(self) -> Self:
        """The same component, asked to answer in pieces."""
        return replace(self, context=b'"stream":true,' + self.context)


@dataclass(frozen=True, slots=True)
class Table:
    """One revision of one deployment, ready to serve."""

    deployment: str
    app: str
    commit: str
    generation: int
    tree: str
    suspended: bool
    on_demand: bool
    """Whether instances are started by the first request only."""
    max_body: int
    """Bytes."""
    api_keys: tuple[ApiKeyDefinition, ...]
    """Of this revision; those of production count."""
    components: Mapping[str, Component]
    """All of them by id, those without a route too."""
    routes: RouteTable[Component]
    ui: Mapping[str, UiFile]
    ui_root: Path
    limits: Mapping[str, PoolLimits]
    """By pool, as `Component.pool` names it."""
    lanes: Mapping[str, tuple[tuple[str, Lane], ...]]
    """By pool, as `Component.pool` names it: (instance, lane)."""
    metrics: ComponentMetrics
    """Of requests that reach no component."""


def build(document: Mapping[str, Any], home: Home, checks: CheckPool) -> Table:
    """Make a table from a RoutesDoc. Slow and pure: meant for a worker thread.

    `checks` is where its schemas are held against documents (`schemas.PROGRAM`).

    Raises what a malformed document causes (KeyError, TypeError, ValueError).
    """
    doc = RoutesDoc.from_json(document)
    snapshot = doc.snapshot
    deployment = Deployment.parse(doc.deployment)
    compiled = {
        path: SchemaCheck(deployment.app, schema, checks) for path, schema in snapshot.schemas.items()
    }
    components = {}
    routes = []
    for definition in snapshot.components:
        component = components[definition.component_id] = _component(
            definition, snapshot, deployment, compiled
        )
        if definition.route_matcher is not None:
            pattern = RoutePattern.parse(definition.route_matcher.path_pattern)
            routes.append((pattern, definition.route_matcher.methods, component))
    return Table(
        deployment=deployment.id,
        app=deployment.app,
        commit=snapshot.commit,
        generation=doc.generation,
        tree=snapshot.tree,
        suspended=doc.suspended,
        on_demand=doc.on_demand,
        max_body=snapshot.definition.max_body_bytes,
        api_keys=snapshot.security.api_keys,
        components=components,
        routes=RouteTable(routes),
        ui=snapshot.ui,
        ui_root=home.trees / deployment.app / snapshot.tree / "state" / "ui",
        limits={
            pool_key(name, kind): _limits(pool, doc.on_demand)
            for name, pool in snapshot.pools.items()
            for kind in _kinds(snapshot, name)
        },
        lanes={
            pool_key(name, kind): tuple(item for item in lanes if item[1].serves is kind)
            for name, lanes in doc.pools.items()
            for kind in _kinds(snapshot, name)
        },
        metrics=component_metrics(deployment.id, NO_COMPONENT),
    )


def pool_key(pool: str, kind: HandlerType) -> str:
    """What the gateway calls the lanes of a pool that serve one type of component.

    Each type waits in a queue of its own, so that slow LLMs hold up no code in the same pool.
    """
    return pool if kind is HandlerType.JIT else f"{pool}/{kind}"


def pool_of(key: str) -> str:
    """The pool behind what `pool_key` made."""
    return key.partition("/")[0]


def _kinds(snapshot: AppSnapshot, pool: str) -> set[HandlerType]:
    """The types of the components in a pool; JIT where there is none."""
    used = {each.handler_type for each in snapshot.components if each.target_pool_name == pool}
    return used or {HandlerType.JIT}


def _limits(pool: PoolDefinition, on_demand: bool) -> PoolLimits:
    return PoolLimits(
        pool.max_queue,
        pool.queue_timeout_seconds,
        pool.timeout_seconds,
        elastic=on_demand or pool.max_instances > pool.min_instances,
    )


def _component(
    definition: ComponentDefinition,
    snapshot: AppSnapshot,
    deployment: Deployment,
    compiled: Mapping[str, SchemaCheck],
) -> Component:
    timeout = snapshot.pools[definition.target_pool_name].timeout_seconds
    context = {
        "appId": snapshot.app,
        "componentId": definition.component_id,
        "stateConfig": STATE_CONFIG,
        "configuration": snapshot.component_configuration(definition.component_id),
        "applicationInfo": {"deploymentMode": "staging" if deployment.preview else "production"},
        "deployment": deployment.id,
        "revision": snapshot.commit,
        "tree": snapshot.tree,
        "taskDetails": definition.task_details,
        "expectedResultFormat": definition.expected_result_format,
        "timeoutMs": round(timeout * 1000),
    }
    return Component(
        id=definition.component_id,
        deployment=deployment.id,
        handler_type=definition.handler_type,
        pool=pool_key(definition.target_pool_name, definition.handler_type),
        timeout=timeout,
        context=orjson.dumps(context)[1:],
        permission=definition.route_matcher.permission if definition.route_matcher is not None else None,
        stream=definition.stream,
        request_schema=_schema(compiled, definition.request_schema),
        response_schema=_schema(compiled, definition.response_schema),
        metrics=component_metrics(deployment.id, definition.component_id),
    )


def _schema(compiled: Mapping[str, SchemaCheck], path: str | None) -> SchemaCheck | None:
    return None if path is None else compiled[path]
