"""Tools that an app offers to LLMs and other MCP clients, each answered by one of its components."""

from __future__ import annotations

from typing import Any

from pydantic import Field, JsonValue

from uhlp_state.model.base import Flag, Model, Name, Number
from uhlp_state.model.patterns import TOOL

PREFIX = "app."
MAX_TOOL_NAME = 64
"""Characters of a whole name, `app.` included: what the strictest LLM APIs and clients take."""


class ToolAnnotations(Model):
    """Hints for clients, as the Model Context Protocol defines them. Nobody enforces them."""

    read_only_hint: Flag = False
    """Whether it changes nothing. Default false."""
    destructive_hint: Flag = True
    """Whether it may delete or overwrite something. Default true."""
    idempotent_hint: Flag = False
    """Whether calling it again with the same arguments changes nothing more. Default false."""
    open_world_hint: Flag = True
    """Whether it reaches things outside the app. Default true."""


class ToolDefinition(Model):
    """A tool of the app (`state/tools/*.yaml`)."""

    name: str = Field(pattern=TOOL, max_length=MAX_TOOL_NAME)
    """Letters, digits, `_` and `-`, with dots between; `summarise` is called `app.summarise`. At most 64
    characters with `app.`."""
    title: str = Field(default="", max_length=256)
    """Name for people."""
    description: str = Field(min_length=1, max_length=4096)
    """What it does and when to use it: all that an LLM knows of it."""
    input_schema: dict[str, JsonValue] = Field(default={"type": "object"})
    """JSON Schema of the arguments, of type object. By default any object."""
    output_schema: dict[str, JsonValue] | None = None
    """JSON Schema of the result, of type object. Without it, any result."""
    component: Name
    """The component that answers: its handler gets the arguments as `input`."""
    annotations: ToolAnnotations = ToolAnnotations()
    """Hints for clients."""
    timeout_seconds: Number | None = Field(default=None, gt=0, le=900)
    """Seconds that a call may take, where that is less than its pool's `timeoutSeconds`."""

    @property
    def full_name(self) -> str:
        """The name that clients call."""
        return PREFIX + self.name.removeprefix(PREFIX)

    def schemas(self) -> dict[str, dict[str, Any]]:
        """Its JSON Schemas by the key that holds them."""
        given = {"inputSchema": self.input_schema, "outputSchema": self.output_schema}
        return {key: schema for key, schema in given.items() if schema is not None}
