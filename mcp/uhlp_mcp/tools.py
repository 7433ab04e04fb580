"""Declares tools, and calls them by name with checked arguments.

A tool is data and one function; a server is a `Toolbox` of them. Knows no transport and no JSON-RPC.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from jsonschema.protocols import Validator
from referencing import Registry

from uhlp_core.errors import NotFound, UhlpError
from uhlp_core.ids import Deployment
from uhlp_mcp.blocks import Blocks
from uhlp_mcp.turns import Turns
from uhlp_state.json_schema.dialects import dialect_of
from uhlp_state.json_schema.quick_check import compile_quick
from uhlp_state.model.policies import PolicyEvent
from uhlp_state.problems import did_you_mean

MAX_NAME = 64
"""Characters of a tool's name: what the strictest LLM APIs and clients take."""

MAX_UNKNOWN = 80
"""Characters of a name without a tool that are told."""

THREADS_OF_APP = 4
"""Threads that calls of one app hold at the same time: a slow disk is kept busy, the other apps' are free."""

MAX_VIOLATIONS = 10
"""Violations told of one value."""

MAX_DETAIL = 200
"""Characters of one violation, which quotes the caller's data."""

EVERYTHING = frozenset({"*"})
"""The scopes of a sandbox and of the operator: every tool of the app."""

_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


def compiled(schema: Mapping[str, Any]) -> Validator:
    """A validator of the schema's own dialect that fetches no reference, whatever the schema says."""
    return dialect_of(schema).validator(schema, registry=Registry())


def violations(validator: Validator, value: Any) -> str:
    """How a value breaks a schema, for a message; empty if it conforms."""
    found = []
    try:
        for error in validator.iter_errors(value):
            found.append(f"{error.json_path}: {error.message[:MAX_DETAIL]}")
            if len(found) == MAX_VIOLATIONS:
                break
    except RecursionError:
        found.append("it is nested too deeply")
    return "; ".join(found)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. Known from the socket, the key or the signed token; no argument of a call can change it."""

    app: str
    deployment: str
    instance: str = ""
    """Empty for a client from outside."""
    pool: str = ""
    component: str = ""
    """The component whose handler calls; only a signed token tells."""
    request_id: str = ""
    """For logs: what the client sent as `X-Request-ID`; empty where it sent none."""
    user: str = ""
    scopes: frozenset[str] = EVERYTHING
    """Which tools the caller sees: names, or prefixes that end in `*`."""
    depth: int = 0
    """Calls of components by components that led here."""
    safe_names: bool = False
    """Whether tools are listed under names without dots."""

    @classmethod
    def of(cls, deployment: str, instance: str, pool: str = "") -> "Caller":
        """The caller behind an instance of a deployment. Raises InvalidInput."""
        return cls(Deployment.parse(deployment).app, deployment, instance, pool)

    def may_use(self, tool: str) -> bool:
        """Whether a scope covers the tool. What may not be used looks like what does not exist."""
        return "*" in self.scopes or any(
            tool.startswith(scope[:-1]) if scope.endswith("*") else tool == scope for scope in self.scopes
        )


@dataclass(frozen=True, slots=True)
class ScriptedContent:
    """Structured content that a script of the app's has written, which stands in for a language model."""

    structured: dict[str, Any]


Result = dict[str, Any] | ScriptedContent | Blocks
"""Structured content, of which the text for models is made; or both."""

Handler = Callable[[Caller, dict[str, Any]], Awaitable[Result]]
"""Does the work: arguments that conform to the input schema in, structured content out. Raises UhlpError."""


class Emit(Protocol):
    """Tells the client a part of a result at once, while the work goes on."""

    async def __call__(self, text: str, *, scripted: bool = False) -> None:
        """`scripted` says that no language model wrote it, but a script of the app's."""
        ...


StreamingHandler = Callable[[Caller, dict[str, Any], Emit], Awaitable[Result]]
"""A handler that tells parts of its result as they come; the whole result is returned all the same."""


Judge = Callable[[str, Mapping[str, Any], Any], Awaitable[str]]
"""How a value breaks a schema of an app's, as `violations` says it. A pattern, or a reference that branches,
can take for ever: whoever judges by schemas of others does it where that holds up nobody else."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool as clients see it, and what runs when it is called.

    Raises ValueError for a name that clients refuse: 1 to 64 of letters, digits, `_`, `-` and dots between.
    """

    name: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None
    """None where nothing is promised of the result."""
    handler: Handler
    read_only: bool = False
    """Whether it changes nothing; clients may call it without asking."""
    idempotent: bool = False
    """Whether calling it again with the same arguments changes nothing more."""
    destructive: bool = False
    """Whether it may delete or overwrite something."""
    open_world: bool = False
    """Whether it reaches things outside the app."""
    title: str = ""
    """Name for people."""
    streaming: StreamingHandler | None = None
    """Called instead of `handler` for a client that asked for progress and takes a stream."""
    listed: bool = True
    """Whether it may be shown; a call of one that is held back says why."""
    blocking: bool = False
    """Whether it works in a thread, of which an app has a few at a time only."""
    judge: Judge | None = None
    """Judges arguments where the input schema is not ours; without it, this process does."""
    _conforms: Callable[[Any], bool] = field(init=False, repr=False, compare=False)
    _validator: Validator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.name) > MAX_NAME or not _NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.name[:80]!r} cannot name a tool: use at most {MAX_NAME} letters, digits, _ and -, "
                "with single dots between"
            )
        object.__setattr__(self, "input_schema", _without_headers(self.input_schema))
        object.__setattr__(self, "_conforms", compile_quick(self.input_schema))
        object.__setattr__(self, "_validator", compiled(self.input_schema))

    def to_json(self) -> dict[str, Any]:
        """The tool as in a `tools/list` result."""
        told = {
            "name": self.name,
            "title": self.title or None,
            "description": self.description,
            "inputSchema": self.input_schema,
            "outputSchema": self.output_schema,
            "annotations": {
                "readOnlyHint": self.read_only,
                "destructiveHint": self.destructive,
                "idempotentHint": self.read_only or self.idempotent,
                "openWorldHint": self.open_world,
            },
        }
        return {key: value for key, value in told.items() if value is not None}

    async def check(self, app: str, arguments: dict[str, Any]) -> None:
        """Raises InvalidArguments, which lists how the arguments of an app's call break the input schema."""
        if self._conforms(arguments):
            return
        if self.judge is None:
            wrong = violations(self._validator, arguments)
        else:
            wrong = await self.judge(app, self.input_schema, arguments)
        if wrong:
            raise InvalidArguments(f"the arguments of {self.name} are not valid: {wrong}")


class ToolSource(Protocol):
    """Tools that differ from caller to caller, such as those that an app declares."""

    async def tools(self, caller: Caller) -> Mapping[str, Tool]:
        """The caller's tools, as made by `by_name`; empty where there are none."""
        ...


Hint = Callable[[Caller, str], Awaitable[str]]
"""Why a caller has no tool of a name, and what to do; empty where there is nothing to say."""


class Guard(Protocol):
    """Decides what calls may do."""

    async def check(
        self, event: PolicyEvent, caller: Caller, content: Any, *, tool: str = "", model: str = ""
    ) -> Any:
        """The content that may go on. Raises UhlpError where none may."""
        ...

    async def concerns(self, event: PolicyEvent, caller: Caller, tool: str = "") -> bool:
        """Whether there is anything to decide."""
        ...


class UnknownTool(NotFound):
    """No tool has this name."""

    code = "UNKNOWN_TOOL"


class InvalidArguments(UhlpError):
    """The arguments do not conform to the tool's input schema; the text lists how."""

    code = "INVALID_ARGUMENTS"


def safe_name(name: str) -> str:
    """The alias for clients and LLM APIs that refuse dots: `core.state.x` is `core__state__x`.

    An alias of more than 64 characters is cut and ends in 8 hexadecimal digits of the name's SHA-256.
    """
    alias = name.replace(".", "__")
    if len(alias) <= MAX_NAME:
        return alias
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{alias[: MAX_NAME - 9]}_{digest}"


def by_name(tools: Iterable[Tool]) -> dict[str, Tool]:
    """Tools by name and in the order of names.

    Raises ValueError if a name or alias of one is a name or alias of another: a call must mean one tool.
    """
    named: dict[str, Tool] = {}
    taken: dict[str, str] = {}
    for tool in sorted(tools, key=lambda tool: tool.name):
        for name in {tool.name, safe_name(tool.name)}:
            if name in taken:
                raise ValueError(f"the tools {taken[name]} and {tool.name} are both called {name}")
            taken[name] = tool.name
        named[tool.name] = tool
    return named


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools that everybody has, and sources of those that differ per caller."""

    core: Mapping[str, Tool]
    sources: tuple[ToolSource, ...] = ()
    guard: "Guard | None" = None
    hint: Hint | None = None
    _aliases: Mapping[str, Tool] = field(default_factory=dict, repr=False)
    _turns: Turns = field(default_factory=Turns, repr=False)

    @classmethod
    def of(
        cls,
        tools: Iterable[Tool],
        sources: Iterable[ToolSource] = (),
        guard: "Guard | None" = None,
        hint: Hint | None = None,
    ) -> "Toolbox":
        """`guard` decides on every call, `hint` helps who names a tool that is not there.

        Raises ValueError if two tools share a name or alias.
        """
        core = by_name(tools)
        return cls(core, tuple(sources), guard, hint, {safe_name(name): tool for name, tool in core.items()})

    async def find(self, caller: Caller, name: str) -> Tool:
        """The tool of this name or alias. Raises UnknownTool, also for what the caller may not use."""
        tool = self.core.get(name) or self._aliases.get(name) or await self._of_sources(caller, name)
        if tool is None or not caller.may_use(tool.name):
            remedy = await self._remedy(caller, name)
            raise UnknownTool(f"there is no tool named {name[:MAX_UNKNOWN]!r}; {remedy}")
        return tool

    async def visible(self, caller: Caller) -> AsyncIterator[Tool]:
        """Every tool that the caller may use: those of everybody first."""
        for tool in self.core.values():
            if caller.may_use(tool.name):
                yield tool
        for source in self.sources:
            for tool in (await source.tools(caller)).values():
                if tool.listed and caller.may_use(tool.name) and tool.name not in self.core:
                    yield tool

    async def call(
        self, caller: Caller, name: str, arguments: dict[str, Any], emit: Emit | None = None
    ) -> Result:
        """Run a tool; with `emit`, one that can tell parts of its result early does so.

        Raises UnknownTool, InvalidArguments, and what the tool raises.
        """
        tool = await self.find(caller, name)
        if self.guard is None:
            return await self._run(tool, caller, arguments, emit)
        arguments = await self.guard.check(PolicyEvent.TOOL_CALL, caller, arguments, tool=tool.name)
        if emit is not None and await self.guard.concerns(PolicyEvent.TOOL_RESULT, caller, tool.name):
            emit = None  # What has been sent cannot be redacted any more.
        try:
            result = await self._run(tool, caller, arguments, emit)
        except UhlpError as error:
            raise await self._governed(self.guard, error, tool, caller) from None
        if isinstance(result, Blocks):
            said = await self.guard.check(PolicyEvent.TOOL_RESULT, caller, result.said(), tool=tool.name)
            return result.saying(said)
        content = result.structured if isinstance(result, ScriptedContent) else result
        found: dict[str, Any] = await self.guard.check(
            PolicyEvent.TOOL_RESULT, caller, content, tool=tool.name
        )
        return ScriptedContent(found) if isinstance(result, ScriptedContent) else found

    async def _run(self, tool: Tool, caller: Caller, arguments: dict[str, Any], emit: Emit | None) -> Result:
        await tool.check(caller.app, arguments)
        if emit is not None and tool.streaming is not None:
            return await tool.streaming(caller, arguments, emit)
        if tool.blocking:
            return await self._turns.run(caller.app, THREADS_OF_APP, lambda: tool.handler(caller, arguments))
        return await tool.handler(caller, arguments)

    async def _governed(self, guard: "Guard", error: UhlpError, tool: Tool, caller: Caller) -> UhlpError:
        """A tool's error as the policies let it be told: its words can be those of another server or an app.

        Raises as the guard does.
        """
        words = [error.code, str(error)]
        told = await guard.check(PolicyEvent.TOOL_RESULT, caller, words, tool=tool.name)
        if told == words:
            return error
        # A code is redacted where an app has chosen it as another text; no program knows what is left of it.
        return error.saying(told[1], error.code if told[0] == error.code else "TOOL_FAILED")

    async def _remedy(self, caller: Caller, name: str) -> str:
        """What to do about a name without a tool. Tells of no tool that the caller may not use."""
        if self.hint is not None and (told := await self.hint(caller, name)):
            return told
        visible = [tool.name async for tool in self.visible(caller)]
        known = map(safe_name, visible) if caller.safe_names else visible
        return did_you_mean(name, known, "tools/list names them all")

    async def _of_sources(self, caller: Caller, name: str) -> Tool | None:
        for source in self.sources:
            tools = await source.tools(caller)
            if name in tools:
                return tools[name]
            # Looked up in the table at hand, never by taking an alias apart: that would be ambiguous.
            for tool in tools.values():
                if safe_name(tool.name) == name:
                    return tool
        return None


def _without_headers(schema: Any) -> Any:
    """A JSON Schema without `x-mcp-header`, which asks clients to repeat an argument in an HTTP header.

    Nobody between a client and us routes by arguments; what is not asked for need not be compared.
    """
    if isinstance(schema, Mapping):
        return {
            key: _without_headers(value)
            for key, value in schema.items()
            if key != "x-mcp-header" or not isinstance(value, str)
        }
    return [_without_headers(value) for value in schema] if isinstance(schema, list | tuple) else schema
