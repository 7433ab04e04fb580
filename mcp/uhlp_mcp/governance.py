"""Holds calls against the policies of their deployment, and puts each decision on record before it counts.

Where no rule concerns a call there is nothing to decide: it costs a look-up and leaves no record.
"""

import asyncio
import contextlib
from typing import Any

from uhlp_core.errors import UhlpError, Unavailable
from uhlp_core.home import Home
from uhlp_core.ids import Deployment
from uhlp_core.store import UNAVAILABLE
from uhlp_mcp.background import Background
from uhlp_mcp.served import Served
from uhlp_mcp.tools import THREADS_OF_APP, Caller
from uhlp_mcp.turns import Turns
from uhlp_policies import audit
from uhlp_policies.chain import Decision, PolicyChain
from uhlp_state.model.policies import PolicyAction, PolicyEvent
from uhlp_state.snapshot import AppSnapshot


class Governance:
    """The policy chains of the deployments that call."""

    def __init__(self, home: Home, served: Served) -> None:
        self._home = home
        self._served = served
        self._chains: dict[str, tuple[AppSnapshot, PolicyChain]] = {}
        self._compiling: dict[str, asyncio.Lock] = {}
        self._learning = Background()
        self._turns = Turns()

    async def check(
        self, event: PolicyEvent, caller: Caller, content: Any, *, tool: str = "", model: str = ""
    ) -> Any:
        """The content that may go on, redacted where a policy says so.

        Raises PolicyDenied, and Unavailable where the policies in force, or the audit log, are out of reach.
        """
        chain = await self._current(caller.deployment)
        component = _component(caller)
        if not chain.concerns(event, tool=tool, component=component):
            return content

        def decide() -> Decision:
            decision = chain.decide(event, content, tool=tool, component=component)
            audit.record(
                self._home.app_log(caller.app).parent,
                event,
                decision,
                deployment=caller.deployment,
                instance=caller.instance,
                component=caller.component,
                user=caller.user,
                request_id=caller.request_id,
                tool=tool,
                # A name that is part of the content stays in here only if nothing was found in that.
                model=model if decision.action == PolicyAction.ALLOW or model not in content else "",
            )
            return decision

        try:
            if chain.is_quick(event, content, tool=tool, component=component):
                return decide().allowed()
            # In a thread, since an app's rules can be many, and its texts long.
            decision = await self._turns.run(caller.app, THREADS_OF_APP, lambda: asyncio.to_thread(decide))
        except OSError as error:
            raise Unavailable(f"the audit log cannot be written: {error.strerror}") from None
        return decision.allowed()

    async def concerns(self, event: PolicyEvent, caller: Caller, tool: str = "") -> bool:
        """Whether there is anything to decide. Raises as `check` does."""
        chain = await self._current(caller.deployment)
        return chain.concerns(event, tool=tool, component=_component(caller))

    def know(self, deployments: set[str]) -> None:
        """Read the policies of deployments that may call, so that they are at hand if Redis goes away.

        Nobody waits for that: those of one app can take long.
        """
        for gone in self._chains.keys() - deployments:
            del self._chains[gone]
            self._compiling.pop(gone, None)
        for deployment in deployments - self._chains.keys():
            if deployment not in self._compiling or not self._compiling[deployment].locked():
                self._learning.start(self._learn(deployment))

    async def _learn(self, deployment: str) -> None:
        with contextlib.suppress(UhlpError, *UNAVAILABLE):  # who calls is told
            await self._current(deployment)

    async def _current(self, deployment: str) -> PolicyChain:
        known = self._chains.get(deployment)
        try:
            snapshot = await self._served.governing(deployment)
        except (Unavailable, *UNAVAILABLE):
            # While Redis is away, or has lost its data, those known last stay in force.
            if known is None:
                raise
            return known[1]
        if known is None or known[0] is not snapshot:
            known = await self._compiled(deployment, snapshot)
        return known[1]

    async def _compiled(self, deployment: str, snapshot: AppSnapshot) -> tuple[AppSnapshot, PolicyChain]:
        """The chain of a snapshot, made once for all who wait for it, in a thread: it can take seconds."""
        async with self._compiling.setdefault(deployment, asyncio.Lock()):
            known = self._chains.get(deployment)
            if known is None or known[0] is not snapshot:
                if known is not None and _policies(known[0]) == _policies(snapshot):
                    chain = known[1]
                else:
                    chain = await self._turns.run(
                        snapshot.app, THREADS_OF_APP, lambda: asyncio.to_thread(PolicyChain.of, snapshot)
                    )
                known = self._chains[deployment] = (snapshot, chain)
        return known


def _component(caller: Caller) -> str | None:
    """As a chain wants it: None where nobody vouches for whose call it is.

    A handler that leaves out its token does not say, and a proposal may have given its components new names.
    """
    if Deployment.parse(caller.deployment).is_proposal:
        return None
    return caller.component or (None if caller.instance else "")


def _policies(snapshot: AppSnapshot) -> object:
    return snapshot.shipped_policies, snapshot.policies
