"""Whether a server's tools still are what the app's owners approved: description, schemas and hints."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from uhlp_core import events
from uhlp_core.events import Event
from uhlp_core.ids import Deployment
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_mcp.background import Background
from uhlp_mcp.community.errors import ToolChanged
from uhlp_state.model import PinnedTool

_log = logging.getLogger(__name__)


def digest(tool: PinnedTool) -> str:
    """SHA-256 of all that a server says of a tool."""
    return hashlib.sha256(orjson.dumps(tool.to_json(), option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class _Compared:
    """What a comparison was made of, and what it found."""

    pinned: tuple[PinnedTool, ...]
    seen: Mapping[str, PinnedTool]
    held: Mapping[str, tuple[str, str]]
    """By name of a tool that differs: digests of its pin and of what the server says, empty if it is gone."""


class Pins:
    """Compares, and remembers what is held back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._compared: dict[tuple[str, str], _Compared] = {}
        """By deployment and server."""
        self._telling = Background()
        self.version = 0
        """Another one for every change of what is held back."""

    def held(self, deployment: str, server: str, tool: PinnedTool) -> bool:
        """Whether the tool was found to differ from this pin when it was last compared."""
        last = self._compared.get((deployment, server))
        found = last.held.get(tool.name) if last is not None else None
        return found is not None and found[0] == digest(tool)

    def compare(
        self, deployment: str, server: str, pinned: tuple[PinnedTool, ...], seen: Mapping[str, PinnedTool]
    ) -> None:
        """Look at all tools of a server; each change is told once.

        In one step, so that no other call passes while it is under way: the telling comes after it.
        """
        last = self._compared.get((deployment, server))
        if last is not None and last.pinned is pinned and last.seen is seen:
            return
        held = {
            tool.name: (digest(tool), digest(there) if there is not None else "")
            for tool in pinned
            if (there := seen.get(tool.name)) != tool
        }
        self._compared[deployment, server] = _Compared(pinned, seen, held)
        known = last.held if last is not None else {}
        if held == known:
            return
        self.version += 1
        if changed := {name: new for name, (_, new) in held.items() if known.get(name) != held[name]}:
            self._telling.start(self._tell(deployment, server, changed))

    def check(self, deployment: str, server: str, tool: PinnedTool) -> None:
        """Raises ToolChanged for a tool that is held back."""
        if self.held(deployment, server, tool):
            app = Deployment.parse(deployment).app
            raise ToolChanged(
                f"the MCP server {server} describes its tool {tool.name} otherwise than it was approved, or "
                f"has it no more; look at the change and approve it with `uhlp mcp pin {app} {server}`"
            )

    def forget(self, deployment: str, server: str) -> None:
        """Know nothing of a server any more: it has ended for good, or until it is called again."""
        last = self._compared.pop((deployment, server), None)
        if last is not None and last.held:
            self.version += 1

    async def close(self) -> None:
        """Wait until all changes are told."""
        await self._telling.finish()

    async def _tell(self, deployment: str, server: str, changed: Mapping[str, str]) -> None:
        """`changed` has what the server says now by name of the tool, as a digest; empty if it is gone."""
        try:
            async with self._store.pipeline(transaction=False) as pipe:
                for tool, new in changed.items():
                    what = "is not described as it was approved" if new else "is gone"
                    message = f"the tool {tool} of the MCP server {server} {what}, so it is held back"
                    _log.warning("%s", message, extra={"deployment": deployment})
                    app = Deployment.parse(deployment).app
                    events.record(
                        pipe, Event(app, deployment, "mcp", "ToolHeldBack", message, type="Warning")
                    )
                await pipe.execute()
        except UNAVAILABLE as error:
            _log.warning("events got lost, Redis is away: %s", error)
