"""Which programs an app's components may run, and within what limits (specification 10.2)."""

from __future__ import annotations

from pydantic import Field

from uhlp_state.model.base import Count, Model, Number
from uhlp_state.model.patterns import PROGRAM
from uhlp_state.model.pools import Memory, parse_memory

HARDENED = tuple(
    f"/usr/bin/{name}"
    for name in (
        "base64",
        "curl",
        "cut",
        "date",
        "gawk",
        "grep",
        "head",
        "jq",
        "sed",
        "sha256sum",
        "sort",
        "tail",
        "tr",
        "uniq",
        "wc",
    )
)
"""Programs whose arguments are checked: they read standard input, write standard output, and do no more."""

MAX_COMMAND_SECONDS = 120


class AllowedCommand(Model):
    """One program."""

    path: str = Field(pattern=PROGRAM, max_length=255, examples=["/usr/bin/jq"])
    """Its absolute path, exactly as it is called: `/usr/bin/jq`. Not a symbolic link."""
    hosts: tuple[str, ...] = Field(default=(), max_length=50)
    """For `curl`: the hosts that it may speak to, over https. Default none."""
    description: str = ""
    """For people."""


class CommandConfig(Model):
    """What `core.linux.executeCommand` runs for this app (`commands` in `app_definition.yaml`)."""

    allowed: tuple[AllowedCommand, ...] = Field(default=(), max_length=100)
    """The programs. Default none."""
    timeout_seconds: Number = Field(default=10, gt=0, le=MAX_COMMAND_SECONDS)
    """Seconds that one may run. Default 10, at most 120."""
    memory_limit: Memory = "256M"
    """Memory of each of its processes. Default 256M."""
    max_processes: Count = Field(default=16, ge=1, le=256)
    """Processes and threads at once. Default 16."""
    max_output_bytes: Count = Field(default=1024 * 1024, ge=1024, le=16 * 1024 * 1024)
    """Bytes of its standard output, and of its standard error. Default 1 MiB."""

    @property
    def memory_bytes(self) -> int:
        """`memory_limit` in bytes."""
        size = parse_memory(self.memory_limit)
        assert size is not None, "checked when the model was built"
        return size

    def find(self, path: str) -> AllowedCommand | None:
        """The program that is called by exactly this path."""
        return next((command for command in self.allowed if command.path == path), None)
