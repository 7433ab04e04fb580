"""One server of others, whose program (`mcp/community/fault_server.py`) fails in every way it is asked to."""

import os
import sys
from pathlib import Path
from typing import Any

from support import community
from support.mcp_office import Office
from uhlp_state.model import AllowedMcpServer, PinnedTool

FAULTS = Path(__file__).parents[1] / "mcp" / "community" / "fault_server.py"
PROGRAM = AllowedMcpServer(
    command=(os.path.realpath(sys.executable), "-I", str(FAULTS)),
    folders=(str(FAULTS.parent),),
    env=("DB_PASSWORD", "MODE"),
)


async def look(office: Office, deployment: str = "alpha") -> tuple[PinnedTool, ...]:
    return await community.look(office, "fault", deployment)


async def serve(office: Office, deployment: str = "alpha", *, pins: Any = None, **server: Any) -> None:
    definition = {"command": "fault", **server}
    await community.serve(office, "fault", definition, PROGRAM, deployment=deployment, pins=pins)


async def approve(office: Office, deployment: str = "alpha", **server: Any) -> tuple[PinnedTool, ...]:
    definition = {"command": "fault", **server}
    return await community.approve(office, "fault", definition, PROGRAM, deployment=deployment)


async def call(office: Office, tool: str, /, instance: str = "a0", **arguments: Any) -> str:
    return await community.text(office, f"fault.{tool}", instance, **arguments)


async def refused(office: Office, tool: str, /, **arguments: Any) -> str:
    return await office.refused("a0", f"community.fault.{tool}", **arguments)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


def descendants(pid: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found
