"""The program that checks values and finds patterns for the MCP daemon: its jobs are those of `Checker`."""

import re
from typing import Any

from uhlp_mcp.llm.output import check
from uhlp_mcp.tools import compiled, violations
from uhlp_state.json_schema.check_process import serve
from uhlp_state.schema_source import schema_mistakes


def find_groups(pattern: str, text: str) -> dict[str, str] | None:
    """The groups of the first match, by name and by number; None if there is no match."""
    match = re.search(pattern, text)
    if match is None:
        return None
    groups = {
        str(index): value for index, value in enumerate((match[0], *match.groups()))
    } | match.groupdict()
    return {name: value or "" for name, value in groups.items()}


def conformity(value: Any, schema: Any) -> str:
    """How a value breaks a schema, as `uhlp_mcp.tools.violations` says it."""
    return violations(compiled(schema), value)


def schema_errors(schema: Any) -> list[str]:
    """What is wrong with a JSON Schema itself."""
    return [f"{message}; {remedy}" for _, _, message, remedy in schema_mistakes(schema)]


if __name__ == "__main__":
    serve(
        {
            "check": check,
            "conformity": conformity,
            "find_groups": find_groups,
            "schema_errors": schema_errors,
        }
    )
