"""Declares tools, and calls them by name with checked arguments.

A tool is data and one function; a server is a `Toolbox` of them. Knows no transport and no JSON-RPC.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from uhlp_core.errors import NotFound, UhlpError
from uhlp_core.ids import Deployment

MAX_VIOLATIONS = 10
"""Violations told of one call's arguments."""

MAX_DETAIL = 200
"""Characters of one violation, which quotes the caller's data."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. Known from the socket alone; no argument of a call can change it."""

    app: str
    deployment: str
    instance: str

    @classmethod
    def of(cls, deployment: str, instance: str) -> "Caller":
        """The caller behind an instance of a deployment. Raises InvalidInput."""
        return cls(Deployment.parse(deployment).app, deployment, instance)


Handler = Callable[[Caller, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Does the work: arguments that conform to the input schema in, structured content out. Raises UhlpError."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool as clients see it, and what runs when it is called."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    handler: Handler
    read_only: bool = False
    """Whether it changes nothing; clients may call it without asking."""
    idempotent: bool = False
    """Whether calling it again with the same arguments changes nothing more."""

    def to_json(self) -> dict[str, Any]:
        """The tool as in a `tools/list` result."""
        return {
            "name": self.name,
            "description": self.description,
            "inputSchema": self.input_schema,
            "outputSchema": self.output_schema,
            "annotations": {
                "readOnlyHint": self.read_only,
                "destructiveHint": False,
                "idempotentHint": self.read_only or self.idempotent,
                "openWorldHint": False,
            },
        }


class UnknownTool(NotFound):
    """No tool has this name."""

    code = "UNKNOWN_TOOL"


class InvalidArguments(UhlpError):
    """The arguments do not conform to the tool's input schema; the text lists how."""

    code = "INVALID_ARGUMENTS"


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Tools by name, their schemas compiled once."""

    tools: Mapping[str, Tool]
    listing: list[dict[str, Any]]
    """What `tools/list` answers, in order of the names."""
    _validators: Mapping[str, Validator] = field(repr=False)

    @classmethod
    def of(cls, tools: Iterable[Tool]) -> "Toolbox":
        """Raises ValueError if two tools share a name."""
        by_name: dict[str, Tool] = {}
        for tool in sorted(tools, key=lambda tool: tool.name):
            if tool.name in by_name:
                raise ValueError(f"two tools are named {tool.name}")
            by_name[tool.name] = tool
        validators = {name: Draft202012Validator(tool.input_schema) for name, tool in by_name.items()}
        return cls(by_name, [tool.to_json() for tool in by_name.values()], validators)

    async def call(self, caller: Caller, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run a tool. Raises UnknownTool, InvalidArguments, and what the tool raises."""
        tool = self.tools.get(name)
        if tool is None:
            raise UnknownTool(f"there is no tool named {name[:80]!r}; tools/list names them all")
        violations = []
        for error in self._validators[name].iter_errors(arguments):
            violations.append(f"{error.json_path}: {error.message[:MAX_DETAIL]}")
            if len(violations) == MAX_VIOLATIONS:
                break
        if violations:
            raise InvalidArguments(f"the arguments of {name} are not valid: {'; '.join(violations)}")
        return await tool.handler(caller, arguments)
