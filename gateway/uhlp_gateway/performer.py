"""Runs components: the one place that does, for clients outside and for calls from inside the platform.

What a caller sends, and how it is answered, is not known here.
"""

import time
from typing import Any

from uhlp_core.tokens import TokenCache
from uhlp_core.unix_http import Reply
from uhlp_gateway.demand import Demand
from uhlp_gateway.event_stream import EventStream, open_stream
from uhlp_gateway.execute import Job, execute
from uhlp_gateway.lanes import Pool
from uhlp_gateway.problems import Problem
from uhlp_gateway.schemas import SchemaCheck
from uhlp_gateway.table import Component, Table
from uhlp_gateway.tables import Tables
from uhlp_state.model.components import HandlerType


class Performer:
    """Wakes what sleeps, executes, and counts."""

    def __init__(self, tables: Tables, demand: Demand, tokens: TokenCache) -> None:
        self._tables = tables
        self._demand = demand
        self._tokens = tokens

    async def perform(self, table: Table, component: Component, job: Job) -> Reply:
        """The runner's answer. Raises Problem."""
        pool = await self._pool(table, component)
        sent = time.perf_counter()
        reply = await execute(pool, component, self._tokens, job)
        component.metrics.execute.add(time.perf_counter() - sent)
        return reply

    async def begin(self, table: Table, component: Component, job: Job) -> Reply | EventStream:
        """The runner's answer as it comes, or as a whole where it ended before it spoke. Raises Problem."""
        pool = await self._pool(table, component)
        sent = time.perf_counter()
        reply = await open_stream(pool, component, self._tokens, job)
        component.metrics.execute.add(time.perf_counter() - sent)
        return reply

    async def _pool(self, table: Table, component: Component) -> Pool:
        """The component's pool, awake."""
        if component.handler_type is HandlerType.WORKFLOW:
            raise Problem(
                501,
                "HANDLER_TYPE_NOT_AVAILABLE",
                f"the component is of type {component.handler_type}, which this release cannot run",
            )
        pool = self._tables.pools[table.deployment].by_name[component.pool]
        if table.on_demand and not pool.awake:
            pool.release(await self._demand.hold(table, pool))
        return pool


def check_admission(table: Table) -> None:
    """Raises Problem while the app is suspended."""
    if table.suspended:
        raise Problem(503, "APP_SUSPENDED", "this app is suspended for now", headers={"Retry-After": "60"})


async def check_request(schema: SchemaCheck, document: Any) -> None:
    """Raises Problem, which lists how a request breaks its component's requestSchema."""
    if violations := await schema.violations(document):
        raise Problem(
            422,
            "REQUEST_SCHEMA_VIOLATION",
            "the request does not conform to the component's requestSchema",
            extra={"errors": violations},
        )
