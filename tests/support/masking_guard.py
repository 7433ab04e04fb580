"""A guard of tool calls that needs no policies."""

from typing import Any

from uhlp_mcp.tools import Caller
from uhlp_policies.chain import mapped
from uhlp_state.model.policies import PolicyEvent


class MaskingGuard:
    """Takes the word `hidden` out of everything."""

    async def check(self, event: PolicyEvent, caller: Caller, content: Any, **about: str) -> Any:
        return mapped(content, lambda text: text.replace("hidden", "***"))

    async def concerns(self, event: PolicyEvent, caller: Caller, tool: str = "") -> bool:
        return True
