"""The providers of all apps, made when they are first needed and again when their definition changes.

The SDKs are imported here, in a thread and at the first call: they take seconds, which only a daemon with an
app that calls them should pay.
"""

import asyncio
import gc
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from uhlp_core.secrets import SecretMissing
from uhlp_mcp.checker import Checker
from uhlp_mcp.egress import Egress
from uhlp_mcp.llm.errors import NotConfigured
from uhlp_mcp.llm.provider import Provider
from uhlp_mcp.llm.scripted import Scripted
from uhlp_state.decode import parse_model
from uhlp_state.model import LlmProvider, LlmProviderType, ScriptedRules
from uhlp_state.snapshot import AppSnapshot
from uhlp_state.state_manager import StateManager

if TYPE_CHECKING:
    from uhlp_mcp.llm.wire import Wire

Resolve = Callable[[str, str], str]
"""The secret that an app's reference (`secret:<name>`) stands for. May block; raises UhlpError."""

MAX_PROVIDERS = 1000
"""Kept at a time; those not used for longest are made again when they are needed."""

SECRET_SECONDS = 5.0
"""A provider goes on with its credential, or without, for this long before it is looked up again."""

_SDKS = {
    LlmProviderType.OPENAI: ("uhlp_mcp.llm.openai_chat", "OpenAiChat"),
    LlmProviderType.ANTHROPIC: ("uhlp_mcp.llm.anthropic_messages", "AnthropicMessages"),
}


@dataclass(slots=True)
class _Made:
    defined: LlmProvider
    commit: str
    """Of the rules of a scripted provider, which are a file of it; empty for all others."""
    secret: str | None
    provider: Provider
    fresh_until: float


class Providers:
    """Finds the provider that an app means."""

    def __init__(self, egress: Egress, checker: Checker, manager: StateManager, resolve: Resolve) -> None:
        """`egress` says where providers may be, `resolve` what secret a reference stands for."""
        self._egress = egress
        self._wire: Wire | None = None
        self._checker = checker
        self._manager = manager
        self._resolve = resolve
        self._missing: dict[tuple[str, str], tuple[float, str]] = {}
        """Secrets that nobody has: until when they are not looked up again, and what is said meanwhile."""
        self._made: OrderedDict[tuple[str, str], _Made] = OrderedDict()

    async def get(self, deployment: str, snapshot: AppSnapshot, name: str, defined: LlmProvider) -> Provider:
        """The provider that the snapshot defines under a name.

        Raises NotConfigured, and what the secret store and the state manager raise.
        """
        commit = snapshot.commit if defined.type is LlmProviderType.SCRIPTED else ""
        known = self._made.get((deployment, name))
        if known is not None and (known.defined, known.commit) != (defined, commit):
            known = None
        if known is None or known.fresh_until < time.monotonic():
            secret = await self._secret(snapshot.app, defined)
            if known is None or known.secret != secret:
                made = await self._make(snapshot, defined, secret)
                known = _Made(defined, commit, secret, made, 0.0)
            known.fresh_until = time.monotonic() + SECRET_SECONDS
        self._made[deployment, name] = known  # it may have been dropped while the secret was looked up
        self._made.move_to_end((deployment, name))
        if len(self._made) > MAX_PROVIDERS:
            self._made.popitem(last=False)
        return known.provider

    async def close(self) -> None:
        if self._wire is not None:
            await self._wire.close()

    async def _secret(self, app: str, defined: LlmProvider) -> str | None:
        reference = defined.api_key
        if reference is None:
            return None
        missing = self._missing.get((app, reference))
        if missing is not None and time.monotonic() < missing[0]:
            raise SecretMissing(missing[1])
        try:
            return await asyncio.to_thread(self._resolve, app, reference)
        except SecretMissing as error:
            if len(self._missing) >= MAX_PROVIDERS:
                self._missing.clear()
            self._missing[app, reference] = (time.monotonic() + SECRET_SECONDS, str(error))
            raise

    async def _make(self, snapshot: AppSnapshot, defined: LlmProvider, secret: str | None) -> Provider:
        if defined.type is LlmProviderType.SCRIPTED:
            return Scripted(snapshot.app, await self._rules(snapshot, defined), self._checker)
        make, wire = await asyncio.to_thread(self._load, *_SDKS[defined.type])
        if self._wire is None:
            self._wire = wire
        made: Provider = make(self._wire, snapshot.app, defined.base_url, secret, defined.structured_output)
        return made

    def _load(self, module: str, name: str) -> tuple[Callable[..., Provider], "Wire"]:
        """What makes a provider, and the way to it."""
        is_new = module not in sys.modules
        import_module("genai_prices")  # for the price of the first call
        make: Any = getattr(import_module(module), name)
        wire: Any = import_module("uhlp_mcp.llm.wire")
        if is_new:
            gc.collect()
            gc.freeze()  # An SDK has some hundred thousand objects, which no collection needs to look at.
        return make, self._wire or wire.Wire(self._egress)

    async def _rules(self, snapshot: AppSnapshot, defined: LlmProvider) -> ScriptedRules:
        path = defined.file or ""
        found = await self._manager.get_definition_file_content(snapshot.app, path, snapshot.commit)
        parsed = parse_model(ScriptedRules, (found.content or "").encode())
        if parsed.value is None:
            raise NotConfigured(f"the rules in state/{path} cannot be read: {parsed.problems[0].format()}")
        return parsed.value.model
