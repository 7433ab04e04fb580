"""Other people's MCP servers that an app uses, and the tools it has approved (specification 5.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from uhlp_state.model.base import Count, Flag, Model, Name, Number
from uhlp_state.model.patterns import ABSOLUTE_PATH, HEADER, PINNED_TOOL, SERVER_NAME, VARIABLE
from uhlp_state.model.pools import Memory, parse_memory
from uhlp_state.model.tools import ToolAnnotations

PREFIX = "community."
PINS = "state/mcp_pins/"

MAX_SERVERS = 16
"""Of one app: each may be a process of its own."""

MAX_PINNED_TOOLS = 200
"""Of one server. No model can choose among more."""

MAX_VALUE = 4096
"""Characters of an argument, an environment variable or a header."""

SECRET = "secret:"  # noqa: S105 - how a reference begins
"""A value that begins so stands for a secret of the app."""

ServerName = Annotated[str, StringConstraints(pattern=SERVER_NAME, max_length=40)]
Value = Annotated[str, StringConstraints(pattern=r"^[^\u0000-\u001f\u007f]*$", max_length=MAX_VALUE)]
VariableName = Annotated[str, StringConstraints(pattern=VARIABLE, max_length=128)]
HeaderName = Annotated[str, StringConstraints(pattern=HEADER, max_length=128)]
AbsolutePath = Annotated[str, StringConstraints(pattern=ABSOLUTE_PATH, max_length=MAX_VALUE)]


class McpServer(Model):
    """One server of an app (`mcpServers` in `app_definition.yaml`): a program of the platform's, an address,
    or one that registers itself. Nothing of it is offered before its tools are pinned (`uhlp mcp pin`)."""

    command: Name | None = None
    """Name of a program in the platform's `allowedMcpServers`, which is then run shut in for this app."""
    args: tuple[Value, ...] = Field(default=(), max_length=64)
    """With `command`: arguments after those that the platform gives. `secret:NAME` stands for a secret."""
    env: dict[VariableName, Value] = Field(default_factory=dict, max_length=64)
    """With `command`: variables that the platform lets apps set. `secret:NAME` stands for a secret."""
    url: str | None = Field(default=None, pattern=r"^https?://[^\s@\\#]+$", max_length=2048)
    """Address of a server that speaks streamable HTTP; https, except on private networks."""
    headers: dict[HeaderName, Value] = Field(default_factory=dict, max_length=32)
    """With `url` or `register`: headers of every request. With `url`, `secret:NAME` stands for a secret."""
    registers: Flag = Field(default=False, alias="register")
    """Whether the server tells its address itself, with `POST /mcp/register`. Default false."""
    tools: tuple[Name, ...] = Field(default=("*",), max_length=MAX_PINNED_TOOLS)
    """Which of its pinned tools the app offers: names, `*` stands for any letters. Default all."""
    except_tools: tuple[Name, ...] = Field(default=(), max_length=MAX_PINNED_TOOLS)
    """Which of these it does not offer, written likewise. Default none."""
    timeout_seconds: Number = Field(default=30, gt=0, le=900)
    """Seconds that a call may take. Default 30."""

    def offers(self, tool: str) -> bool:
        """Whether a tool is among `tools` and not among `exceptTools`."""
        return _is_among(tool, self.tools) and not _is_among(tool, self.except_tools)

    def unmatched(self, tools: Collection[str]) -> list[str]:
        """What `tools` and `exceptTools` name that is none of these tools; `*` alone names nothing."""
        return [
            pattern
            for pattern in (*self.tools, *self.except_tools)
            if pattern != "*" and not any(fnmatchcase(tool, pattern) for tool in tools)
        ]

    def values(self) -> Iterator[tuple[tuple[str, str | int], str]]:
        """Every value that may be a reference to a secret, and where it stands."""
        for position, argument in enumerate(self.args):
            yield ("args", position), argument
        for key, mapping in (("env", self.env), ("headers", self.headers)):
            for name, value in mapping.items():
                yield (key, name), value


def _is_among(tool: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(tool, pattern) for pattern in patterns)


class AllowedMcpServer(Model):
    """A program that apps may use as an MCP server (`allowedMcpServers` in `platform.yaml`)."""

    command: tuple[Value, ...] = Field(min_length=1, max_length=64)
    """Absolute path of the program, writable by root or the platform's user only, and its first arguments."""
    folders: tuple[AbsolutePath, ...] = Field(default=(), max_length=16)
    """Folders that it reads, besides the system's: where it is installed."""
    env: tuple[VariableName, ...] = Field(default=(), max_length=64)
    """Names of the environment variables that apps may set. Default none: one such as `NODE_OPTIONS`,
    `LD_PRELOAD` or `PATH` makes most programs run whatever the app says."""
    network: Flag = False
    """Whether it has the network of this machine, all of it. Default false."""
    memory_limit: Memory = "512M"
    """Memory of each of its processes. Default 512M."""
    max_processes: Count = Field(default=64, ge=1, le=1024)
    """Processes and threads at once. Default 64."""
    disk_limit: Memory = "1G"
    """What its files may take in one app; a server that has more is ended. Default 1G."""
    description: str = ""
    """For people."""

    def not_settable(self, server: McpServer) -> list[str]:
        """The variables that `server` sets and that are not in `env`, sorted."""
        return sorted(server.env.keys() - set(self.env))

    @property
    def memory_bytes(self) -> int:
        """`memory_limit` in bytes."""
        return _bytes(self.memory_limit)

    @property
    def disk_bytes(self) -> int:
        """`disk_limit` in bytes."""
        return _bytes(self.disk_limit)


def _bytes(size: str) -> int:
    found = parse_memory(size)
    assert found is not None, "checked when the model was built"
    return found


class PinnedTool(Model):
    """A tool as it was approved. What the server says of it must stay exactly this."""

    name: str = Field(pattern=PINNED_TOOL, max_length=128)
    """As the server calls it."""
    title: str = ""
    """Name for people."""
    description: str = ""
    """What LLMs are told of it."""
    input_schema: dict[str, JsonValue] = Field(default={"type": "object"})
    """JSON Schema of the arguments."""
    output_schema: dict[str, JsonValue] | None = None
    """JSON Schema of the structured result, where it promises one."""
    annotations: ToolAnnotations = ToolAnnotations()
    """Hints for clients."""


class McpPins(Model):
    """The approved tools of one server (`state/mcp_pins/<server>.json`), written by `uhlp mcp pin`."""

    tools: tuple[PinnedTool, ...] = Field(max_length=MAX_PINNED_TOOLS)
    """Its tools, by name."""
