"""What a `tools/call` costs: calls per second of one core, against the official SDK's bare low-level server.

Both sides answer the same call in revision 2026-07-28, alone on core 0; the load generator `wrk` has core 1.
The rounds alternate, so that a noisy machine disturbs both alike.
"""

import json
import shutil
import socket
import statistics
import sys

from benchmarks.gateway_hop import Programs, folder, free_port, measure, wait_for
from benchmarks.mcp_servers import NAME
from benchmarks.measuring import Row
from uhlp_core.home import Home
from uhlp_core.tokens import Claims, TokenKey

GOAL = 3.0
ROUNDS = 5
SECONDS = 2
PATH = "/mcp"
BODY = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": NAME,
            "arguments": {"a": 40, "b": 2},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
            },
        },
    }
)


def rows() -> list[Row]:
    if shutil.which("wrk") is None:
        print("mcp_tools_call is left out: it needs the load generator `wrk` (apt-get install wrk)")
        return []
    programs = Programs()
    with folder() as base:
        home = Home(base / "home")
        home.create()
        headers = {
            "Authorization": f"Bearer {TokenKey.of(home).sign(Claims('bench', 'bench'), 3600)}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": NAME,
        }
        script = base / "call.lua"
        lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
        script.write_text("\n".join(["wrk.method = 'POST'", f"wrk.body = [[{BODY}]]", *lines]))
        ports = {"ours": free_port(), "sdk": free_port()}
        rates: dict[str, list[float]] = {side: [] for side in ports}
        try:
            for side, port in ports.items():
                programs.start(
                    sys.executable, "-m", "benchmarks.mcp_servers", side, str(port), str(home.root)
                )
                wait_for(lambda port=port: _answers(port, headers), side)  # type: ignore[misc]
                measure(port, f"localhost:{port}", 1, script, PATH)
            for _ in range(ROUNDS):
                for side, port in ports.items():
                    rates[side].append(measure(port, f"localhost:{port}", SECONDS, script, PATH))
        finally:
            programs.stop()
    ours, sdk = (statistics.median(rates[side]) for side in ("ours", "sdk"))
    what = "MCP tools/call, calls per second and core (reference: the SDK's low-level server)"
    ratio = ours / sdk
    return [Row(what, f"{ours:,.0f} /s", f"{sdk:,.0f} /s", ratio, f"≥ {GOAL:g} ×", ratio >= GOAL)]


def _answers(port: int, headers: dict[str, str]) -> bool:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST {PATH} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n{lines}"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(f"{request}Content-Length: {len(BODY)}\r\n\r\n{BODY}".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError:
        return False
    return b'"sum":42' in answer.replace(b" ", b"")
