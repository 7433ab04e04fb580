"""What a call of another's tool costs through the platform, against the SDK's client at the same server.

One call after the other, medians of alternating rounds. Ours is shut in, and checks arguments and approval.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.gateway_hop import folder
from benchmarks.measuring import Row
from mcp import Client, StdioServerParameters
from uhlp_core import store
from uhlp_core.secrets import SecretStore
from uhlp_core.settings import Settings
from uhlp_mcp.checker import Checker
from uhlp_mcp.community.connection import Connections
from uhlp_mcp.community.pins import Pins
from uhlp_mcp.community.registrations import Registrations
from uhlp_mcp.community.sessions import Sessions
from uhlp_mcp.community.source import CommunityTools
from uhlp_mcp.egress import Egress
from uhlp_mcp.protocol import call
from uhlp_mcp.served import Served
from uhlp_mcp.tools import Caller, Toolbox
from uhlp_state.model import AllowedMcpServer, AppDefinition
from uhlp_state.snapshot import AppSnapshot

GOAL = 2.0
ROUNDS = 5
CALLS = 200
SERVER = Path(__file__).parent.parent / "tests" / "mcp" / "community" / "fault_server.py"
COMMAND = (os.path.realpath(sys.executable), "-I", str(SERVER))
GIVEN = {"text": "hello"}


class Fixed(Served):
    """Serves one snapshot, without a Redis to read it from."""

    def __init__(self, redis: Any, snapshot: AppSnapshot) -> None:
        super().__init__(redis)
        self.fixed = snapshot

    async def snapshot(self, deployment: str) -> AppSnapshot:
        return self.fixed


def rows() -> list[Row]:
    with folder() as base:
        ours, direct = asyncio.run(_measure(Settings(home_dir=base / "home")))
    ratio = ours / direct
    what = "call of another's MCP tool through the platform (reference: the SDK's client)"
    return [Row(what, f"{ours:.2f} ms", f"{direct:.2f} ms", ratio, f"≤ {GOAL:g} ×", ratio <= GOAL)]


async def _measure(settings: Settings) -> tuple[float, float]:
    settings.home.create()
    program = AllowedMcpServer(command=COMMAND, folders=(str(SERVER.parent),))
    definition = AppDefinition.model_validate({"appId": "bench", "mcpServers": {"own": {"command": "own"}}})
    redis = store.connect(settings)
    served = Fixed(redis, AppSnapshot("bench", "", "", definition, (), mcp_programs={"own": program}))
    egress = Egress(private_addresses=False)
    connections = Connections(SecretStore.of(settings), Registrations(redis, served, egress))
    held = Pins(redis)
    sessions = Sessions(settings.home, connections, egress, held)
    checker = Checker()
    try:
        async with sessions.session(served.fixed, "bench", "own") as session:
            pins = {"own": tuple(session.tools.values())}
        served.fixed = AppSnapshot(
            "bench", "", "", definition, (), mcp_programs={"own": program}, mcp_pins=pins
        )
        toolbox = Toolbox.of((), (CommunityTools(served, sessions, held, checker.violations),))
        caller = Caller.of("bench", "b0")
        async with Client(StdioServerParameters(command=COMMAND[0], args=list(COMMAND[1:]))) as client:
            sides: list[Callable[[], Awaitable[Any]]] = [
                lambda: call(toolbox, caller, "community.own.echo", GIVEN),
                lambda: client.call_tool("echo", GIVEN),
            ]
            times: list[list[float]] = [[], []]
            for _ in range(ROUNDS):
                for side, taken in zip(sides, times, strict=True):
                    taken.append(await _round(side))
    finally:
        await checker.close()
        await sessions.close()
        await held.close()
        await redis.aclose()
    ours, direct = (statistics.median(taken) for taken in times)
    return ours, direct


async def _round(act: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds of one call, the median of many."""
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await act()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)
