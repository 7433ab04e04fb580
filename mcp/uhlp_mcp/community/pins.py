"""Whether a server's tools still are what the app's owners approved: description, schemas and hints."""

import hashlib
import logging
from collections.abc import Mapping

import orjson

from uhlp_core import events
from uhlp_core.events import Event
from uhlp_core.ids import Deployment
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_mcp.community.errors import ToolChanged
from uhlp_state.model import PinnedTool

_log = logging.getLogger(__name__)


def digest(tool: PinnedTool) -> str:
    """SHA-256 of all that a server says of a tool."""
    return hashlib.sha256(orjson.dumps(tool.to_json(), option=orjson.OPT_SORT_KEYS)).hexdigest()


class Pins:
    """Compares, and remembers what is held back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[tuple[str, str, str], tuple[str, str]] = {}
        """Digests of what is pinned and of what the server says, by deployment, server and tool."""
        self._compared: dict[tuple[str, str], tuple[object, object]] = {}
        self.version = 0
        """Another one for every change of what is held back."""

    def held(self, deployment: str, server: str, tool: PinnedTool) -> bool:
        """Whether the tool was found to differ from this pin when it was last compared."""
        found = self._held.get((deployment, server, tool.name))
        return found is not None and found[0] == digest(tool)

    async def compare(
        self, deployment: str, server: str, pinned: tuple[PinnedTool, ...], seen: Mapping[str, PinnedTool]
    ) -> None:
        """Look at all tools of a server; each change is told once."""
        last = self._compared.get((deployment, server), (None, None))
        if last[0] is pinned and last[1] is seen:
            return
        self._compared[deployment, server] = (pinned, seen)
        for tool in pinned:
            key = (deployment, server, tool.name)
            there = seen.get(tool.name)
            if there == tool:
                if self._held.pop(key, None) is not None:
                    self.version += 1
                continue
            difference = (digest(tool), digest(there) if there is not None else "")
            if self._held.get(key) != difference:
                self._held[key] = difference
                self.version += 1
                await self._tell(deployment, server, tool.name, gone=there is None)

    def check(self, deployment: str, server: str, tool: PinnedTool) -> None:
        """Raises ToolChanged for a tool that is held back."""
        if self.held(deployment, server, tool):
            app = Deployment.parse(deployment).app
            raise ToolChanged(
                f"the MCP server {server} describes its tool {tool.name} otherwise than it was approved, or "
                f"has it no more; look at the change and approve it with `uhlp mcp pin {app} {server}`"
            )

    async def _tell(self, deployment: str, server: str, tool: str, *, gone: bool) -> None:
        what = "is gone" if gone else "is not described as it was approved"
        event = Event(
            Deployment.parse(deployment).app,
            deployment,
            "mcp",
            "ToolHeldBack",
            f"the tool {tool} of the MCP server {server} {what}, so it is held back",
            type="Warning",
        )
        _log.warning("%s", event.message, extra={"deployment": deployment})
        try:
            async with self._store.pipeline(transaction=False) as pipe:
                events.record(pipe, event)
                await pipe.execute()
        except UNAVAILABLE as error:
            _log.warning("an event got lost, Redis is away: %s", error)
