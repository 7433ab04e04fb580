"""An MCP server on standard input and output: what time it is somewhere. Comes with UHLP, to try things with.

Standard library only, so that it runs wherever Python does. Speaks the revisions with a handshake.
"""

import json
import sys
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

REVISIONS = ("2025-11-25", "2025-06-18", "2025-03-26")

NOW = {
    "name": "now",
    "description": "The date and time in a time zone, such as Europe/Berlin; without one, in UTC.",
    "inputSchema": {
        "type": "object",
        "properties": {"timezone": {"type": "string", "maxLength": 64}},
        "additionalProperties": False,
    },
    "outputSchema": {
        "type": "object",
        "properties": {"time": {"type": "string"}, "timezone": {"type": "string"}},
        "required": ["time", "timezone"],
    },
    "annotations": {"readOnlyHint": True, "openWorldHint": False},
}


def now(timezone: str = "UTC") -> dict[str, Any]:
    """The result of the tool."""
    try:
        moment = datetime.now(ZoneInfo(timezone))
    except (KeyError, ValueError, OSError):
        text = f"there is no time zone {timezone!r}; they are called like Europe/Berlin"
        return {"content": [{"type": "text", "text": text}], "isError": True}
    found = {"time": moment.isoformat(timespec="seconds"), "timezone": timezone}
    return {"content": [{"type": "text", "text": json.dumps(found)}], "structuredContent": found}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The result of a request. Raises LookupError for what is not there."""
    if method == "initialize":
        asked = params.get("protocolVersion")
        return {
            "protocolVersion": asked if asked in REVISIONS else REVISIONS[0],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "clock", "version": "1.0"},
        }
    if method == "tools/list":
        return {"tools": [NOW]}
    if method == "tools/call" and params.get("name") == NOW["name"]:
        return now(**params.get("arguments", {}))
    if method == "ping":
        return {}
    raise LookupError(f"there is no {method} of {params.get('name', 'this name')}")


def main() -> None:
    """Answer line by line, until the input ends."""
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        try:
            reply["result"] = answer(message["method"], message.get("params", {}))
        except LookupError as error:
            reply["error"] = {"code": -32601, "message": str(error)}
        except TypeError as error:
            reply["error"] = {"code": -32602, "message": str(error)}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
