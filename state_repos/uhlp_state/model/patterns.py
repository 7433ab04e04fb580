"""The patterns that names and paths of the model have, and how to say each to who wrote it wrongly."""

from __future__ import annotations

from typing import Final

from uhlp_core.ids import APP_ID_PATTERN, USER_ID_PATTERN

APP_ID: Final = f"^{APP_ID_PATTERN}$"
USER_ID: Final = f"^{USER_ID_PATTERN}$"
POOL_NAME: Final = r"^[a-z][a-z0-9_-]{0,62}$"
COMPONENT_ID: Final = r"^[A-Za-z][A-Za-z0-9_.-]{0,127}$"
RULE_ID: Final = r"^[a-z][a-z0-9-]{0,62}$"
TOOL: Final = r"^(?:app\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$"
PINNED_TOOL: Final = r"^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$"
SERVER_NAME: Final = r"^[a-z][a-z0-9]*(?:[._-][a-z0-9]+)*$"
VARIABLE: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
HEADER: Final = r"^[A-Za-z][A-Za-z0-9-]*$"
PROGRAM: Final = r"^(/[A-Za-z0-9_+][A-Za-z0-9_+.-]*)+$"
ABSOLUTE_PATH: Final = r"^(/[A-Za-z0-9_@+.-]+)+$"

_TOOL_WORDS = "write letters, digits, `_` and `-`, with single dots between"

REMEDIES: Final = {
    APP_ID: "write lower-case letters, digits and single hyphens, a letter first and no hyphen last",
    USER_ID: "write letters, digits and `._@+-`, a letter or digit first, at most 128 characters",
    POOL_NAME: "write lower-case letters, digits, `_` and `-`, a letter first, at most 63 characters",
    COMPONENT_ID: "write letters, digits, `_`, `.` and `-`, a letter first, at most 128 characters",
    RULE_ID: "write lower-case letters, digits and hyphens, a letter first, at most 63 characters",
    TOOL: _TOOL_WORDS,
    PINNED_TOOL: _TOOL_WORDS,
    SERVER_NAME: "write lower-case letters and digits, a letter first, with single `.`, `_` or `-` between",
    VARIABLE: "write letters, digits and `_`, no digit first",
    HEADER: "write letters, digits and hyphens, a letter first",
    PROGRAM: "write an absolute path such as /usr/bin/jq, of letters, digits, `_`, `+`, `.` and `-`",
    ABSOLUTE_PATH: "write an absolute path, of letters, digits, `_`, `@`, `+`, `.` and `-`",
}
"""What to write, by pattern."""
