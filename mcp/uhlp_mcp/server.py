"""The MCP daemon: keeps a door open for every instance that runs, one for people's clients, and the tools
behind them.

If Redis is away the doors stay as they are.
"""

import asyncio
import gc
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from uhlp_core import keys, sockets, store, wake
from uhlp_core.daemon import cancel
from uhlp_core.errors import InvalidInput
from uhlp_core.secrets import SecretStore
from uhlp_core.settings import Settings
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_core.tokens import TokenKey
from uhlp_mcp.access import Access
from uhlp_mcp.app_tools import AppTools
from uhlp_mcp.bearers import Bearers
from uhlp_mcp.checker import Checker
from uhlp_mcp.commands.tool import LinuxTools
from uhlp_mcp.community.connection import Connections
from uhlp_mcp.community.operator_door import OperatorDoor
from uhlp_mcp.community.pins import Pins
from uhlp_mcp.community.registrations import Registrations
from uhlp_mcp.community.sessions import Sessions
from uhlp_mcp.community.source import CommunityTools
from uhlp_mcp.component_tools import ComponentTools
from uhlp_mcp.definition_tools import DefinitionTools
from uhlp_mcp.doors import Doors
from uhlp_mcp.egress import Egress
from uhlp_mcp.filesystem_tools import FilesystemTools
from uhlp_mcp.framework_tools import FrameworkTools
from uhlp_mcp.governance import Governance
from uhlp_mcp.http import Endpoint
from uhlp_mcp.invoker import Invoker
from uhlp_mcp.llm.tool import LlmTools
from uhlp_mcp.network import NetworkDoor
from uhlp_mcp.sdk import SdkServer
from uhlp_mcp.served import Served
from uhlp_mcp.state_tools import StateTools
from uhlp_mcp.tools import Caller, Toolbox
from uhlp_state.state_manager import StateManager

THREADS = 64
"""For blocking work of all apps, each of which holds a few: those of many apps at once, at 50 KB each."""

LOOK_SECONDS = 3.0
"""A full look at all instances happens this often, whatever wake-ups got lost."""

_log = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event, listener: socket.socket | None = None) -> None:
    """Serve until `stop`.

    `listener` (for people's clients) defaults to the inherited socket named `mcp`, or binds the settings'
    address. Raises OSError if that is taken.
    """
    if listener is None:
        listener = sockets.inherited("mcp") or sockets.listen_tcp(
            settings.mcp_bind, settings.effective_mcp_port
        )
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    redis = store.connect(settings)
    served = Served(redis)
    manager = StateManager(settings.home, redis)
    egress = Egress(private_addresses=settings.private_addresses)
    invoker = Invoker(settings.home)
    secrets = SecretStore.of(settings)
    governance = Governance(settings.home, served)
    checker = Checker()
    llm = LlmTools(settings.home, redis, manager, served, secrets.resolve, egress, governance, checker)
    linux = LinuxTools(settings.home, served, egress)
    registrations = Registrations(redis, served, egress)
    pins = Pins(redis)
    sessions = Sessions(settings.home, Connections(secrets, registrations), egress, pins)
    community = CommunityTools(served, sessions, pins, checker.violations)
    toolbox = Toolbox.of(
        (
            *StateTools(manager, served).tools(),
            *DefinitionTools(manager, served).tools(),
            *FrameworkTools(settings.home, served).tools(),
            *ComponentTools(invoker).tools(),
            *FilesystemTools(settings.home).tools(),
            *linux.tools(),
            *llm.tools(),
        ),
        (AppTools(served, invoker, checker.violations), community),
        governance,
        community.hint,
    )
    sdk = SdkServer(toolbox)
    endpoint = Endpoint(toolbox, sdk)
    bearers = Bearers(TokenKey.of(settings.home))
    network = NetworkDoor(settings, endpoint, Access(settings, served, bearers), registrations)
    operator = OperatorDoor(served, sessions, pins)
    daemon = _Daemon(redis, Doors(endpoint, bearers), network, served, governance)
    try:
        await network.open(listener)
        await operator.open(settings.home.mcp_socket)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work)
                for work in (
                    daemon.follow_routes(),
                    daemon.follow_instances(),
                    daemon.look_again(),
                    sessions.sweep(),
                )
            ]
            gc.collect()
            gc.freeze()  # What is there now stays: no collection needs to look at it.
            await stop.wait()
            await cancel(tasks)
    finally:
        await network.close()
        await operator.close()
        await daemon.doors.close()
        await sessions.close()
        await pins.close()
        invoker.close()
        await sdk.close()
        await linux.close()
        await llm.close()
        await checker.close()
        await redis.aclose()


class _Daemon:
    """Looks at the instances in Redis, one look at a time."""

    def __init__(
        self, redis: Store, doors: Doors, network: NetworkDoor, served: Served, governance: Governance
    ) -> None:
        self.doors = doors
        self._network = network
        self._redis = redis
        self._served = served
        self._governance = governance
        self._looking = asyncio.Lock()

    async def follow_routes(self) -> None:
        async for _, deployment in wake.listen(self._redis, "routes"):
            self._served.doubt(deployment)

    async def follow_instances(self) -> None:
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
            calling = {caller.deployment for caller in wanted.values()}
            self._served.keep_only(calling)
            await self.doors.update(wanted)
            self._governance.know(calling)
            self._network.ready = True

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
