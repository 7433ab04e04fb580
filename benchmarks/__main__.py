"""`make bench`: every measurement, one table of ratios on standard output and in bench-results.json.

Name measurements to run only those: `python -m benchmarks push_to_live`.
"""

import json
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

MEASUREMENTS = (
    "push_to_live",
    "gateway_hop",
    "execution_modes",
    "mcp_tools_call",
    "llm_call",
    "llm_component",
    "community_proxy",
    "policy_decision",
    "idle_cost",
    "container_ready",
    "docker_warm",
    "rolling_replacement",
)


def main() -> None:
    console = Console()
    table = Table("what", "value", "reference", "ratio", "target", title="UHLP, measured on this machine")
    results = []
    for name in sys.argv[1:] or MEASUREMENTS:
        with console.status(f"measuring {name} …"):
            rows = import_module(f"benchmarks.{name}").rows()
        for row in rows:
            style = "green" if row.met else "red"
            table.add_row(row.what, row.value, row.reference, f"{row.ratio:.2f} ×", row.target, style=style)
            results.append(asdict(row))
    console.print(table)
    Path("bench-results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
