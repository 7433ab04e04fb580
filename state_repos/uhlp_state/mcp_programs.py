"""MCP servers that come with UHLP, as programs that every platform allows its apps."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from uhlp_state.assets import assets_folder
from uhlp_state.model.mcp_servers import AllowedMcpServer


@cache
def shipped_mcp_servers() -> dict[str, AllowedMcpServer]:
    """By name: `clock`. Empty where Python or this package lies in a folder that may not be named."""
    # The interpreter itself, not a virtual environment's link to it: links are not followed.
    python = Path(sys.executable).resolve()
    servers = assets_folder("mcp_servers").resolve()
    try:
        return {
            "clock": AllowedMcpServer(
                command=(str(python), "-I", "-S", str(servers / "clock.py")),
                folders=(str(servers), str(Path(sys.base_prefix).resolve())),
                memory_limit="128M",
                max_processes=4,
                description="What time it is somewhere.",
            )
        }
    except ValidationError:
        return {}
