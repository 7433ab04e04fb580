"""Runs the jobs of `check_process`, where no pattern or schema of an app's holds up another app."""

from collections.abc import Mapping
from typing import Any

from uhlp_state.json_schema.check_pool import CheckPool, JobFailed


class Checker(CheckPool):
    """The MCP daemon's pool."""

    def __init__(self) -> None:
        super().__init__("uhlp_mcp.check_process")

    async def violations(self, app: str, schema: Mapping[str, Any], value: Any) -> str:
        """How a value breaks a schema of the app's; empty if it conforms."""
        try:
            found: str = await self.run(app, "conformity", value=value, schema=schema)
        except JobFailed as error:
            return f"$: it cannot be held against its schema: {error}"
        except TypeError:
            return "$: it is nested too deeply"  # as orjson says: to be sent on
        return found
