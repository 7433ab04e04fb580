"""The MCP daemon: keeps a door open for every instance that runs, and the tools behind it.

If Redis is away the doors stay as they are.
"""

import asyncio
import logging
from pathlib import Path

import orjson

from uhlp_core import keys, store, wake
from uhlp_core.errors import InvalidInput
from uhlp_core.secrets import SecretStore
from uhlp_core.settings import Settings
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_mcp.doors import Doors
from uhlp_mcp.framework_tools import FrameworkTools
from uhlp_mcp.llm.tool import LlmTools
from uhlp_mcp.served import Served
from uhlp_mcp.state_tools import StateTools
from uhlp_mcp.tools import Caller, Toolbox
from uhlp_state.state_manager import StateManager

LOOK_SECONDS = 3.0
"""A full look at all instances happens this often, whatever wake-ups got lost."""

_log = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`."""
    redis = store.connect(settings)
    served = Served(redis)
    manager = StateManager(settings.home, redis)
    llm = LlmTools(settings, redis, manager, served, SecretStore.of(settings).resolve)
    toolbox = Toolbox.of(
        (
            *StateTools(manager, served).tools(),
            *FrameworkTools(settings.home, served).tools(),
            *llm.tools(),
        )
    )
    daemon = _Daemon(redis, Doors(toolbox), served)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (daemon.follow(), daemon.look_again())]
            await stop.wait()
            for task in tasks:
                task.cancel()
    finally:
        await daemon.doors.close()
        await llm.close()
        await redis.aclose()


class _Daemon:
    """Looks at the instances in Redis, one look at a time."""

    def __init__(self, redis: Store, doors: Doors, served: Served) -> None:
        self.doors = doors
        self._redis = redis
        self._served = served
        self._looking = asyncio.Lock()

    async def follow(self) -> None:
        async for _ in wake.listen(self._redis, "instances"):
            await self._look()

    async def look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        async with self._looking:
            try:
                wanted = await self._instances()
            except UNAVAILABLE as error:
                _log.debug("Redis is away, the doors stay as they are: %s", error)
                return
            self._served.keep_only({caller.deployment for caller in wanted.values()})
            await self.doors.update(wanted)

    async def _instances(self) -> dict[Path, Caller]:
        """Every instance's folder and who calls from it."""
        deployments = sorted(member.decode() for member in await self._redis.smembers(keys.DEPLOYMENTS))
        async with self._redis.pipeline(transaction=False) as pipe:
            for deployment in deployments:
                pipe.hgetall(keys.instances(deployment))
            hashes = await pipe.execute()
        found: dict[Path, Caller] = {}
        for deployment, documents in zip(deployments, hashes, strict=True):
            for instance, raw in documents.items():
                try:
                    document = orjson.loads(raw)
                    caller = Caller.of(deployment, instance.decode(), document.get("pool", ""))
                    found[Path(document["dir"])] = caller
                except (InvalidInput, ValueError, KeyError, TypeError) as error:
                    _log.error("an instance cannot be read: %r", error, extra={"deployment": deployment})
        return found
