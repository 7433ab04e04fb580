"""MCP servers of an app: programs that the platform allows, secrets by reference only, and sound pins."""

from __future__ import annotations

from uhlp_core.errors import InvalidInput
from uhlp_core.secrets import referenced
from uhlp_state import credentials
from uhlp_state.checks.parts import Files, Part
from uhlp_state.json_schema.dialects import OF_OTHERS
from uhlp_state.model import AppDefinition, McpPins, McpServer, PinnedTool
from uhlp_state.model.mcp_servers import PINS, PREFIX, SECRET
from uhlp_state.platform import PlatformDefinition
from uhlp_state.problems import Code, did_you_mean, quoted
from uhlp_state.schema_source import schema_mistakes
from uhlp_state.yaml_source import YamlPath

_SOURCES = {"command": ("args", "env"), "url": ("headers",), "register": ("headers",)}
"""What a server may be, and which keys go with each."""

_WRONG_SECRET = (
    "write a reference such as secret:postgres as the whole value (of an option: in the argument after it), "  # noqa: S105
    "and set it with `uhlp secrets set`: all that is to be sent, such as `Bearer <token>` for Authorization"
)

_SERVERS_OWN = "the server itself describes its tool so: use another version of it, or tell its authors"


def check_mcp_servers(
    files: Files, definition: Part[AppDefinition], platform: PlatformDefinition
) -> dict[str, tuple[PinnedTool, ...]]:
    """Check `mcpServers` and their pins. Returns the pinned tools by server, those that are offered only."""
    for name, server in definition.model.mcp_servers.items():
        base: YamlPath = ("mcpServers", name)
        _check_source(files, definition, base, server, platform)
        _check_values(files, definition, base, server)
    return _pins(files, definition.model)


def _check_source(
    files: Files,
    definition: Part[AppDefinition],
    base: YamlPath,
    server: McpServer,
    platform: PlatformDefinition,
) -> None:
    given = {"command": server.command, "url": server.url, "register": server.registers}
    sources = [key for key, value in given.items() if value]
    if len(sources) != 1:
        message = f"a server is one of {', '.join(given)}; this one is {' and '.join(sources) or 'none'}"
        files.problems.append(
            definition.problem(base, Code.BAD_VALUE, message, "keep exactly one of the keys", key=True)
        )
        return
    for key in ("args", "env", "headers"):
        if getattr(server, key) and key not in _SOURCES[sources[0]]:
            message = f"{quoted(key)} means nothing beside {quoted(sources[0])}"
            files.problems.append(
                definition.problem((*base, key), Code.BAD_VALUE, message, "remove it", key=True)
            )
    if server.command is None:
        return
    program = platform.mcp_programs.get(server.command)
    if program is None:
        message = f"the MCP server {quoted(server.command)} is not allowed on this platform"
        remedy = did_you_mean(
            server.command,
            platform.mcp_programs,
            "have it added to allowedMcpServers in the platform's state/platform.yaml",
        )
        files.problems.append(
            definition.problem((*base, "command"), Code.MCP_SERVER_NOT_ALLOWED, message, remedy)
        )
        return
    for name in program.not_settable(server):
        message = f"the platform lets no app set {quoted(name)} for the MCP server {quoted(server.command)}"
        remedy = did_you_mean(
            name,
            program.env,
            f"remove it, or have it added to allowedMcpServers.{server.command}.env in the platform's "
            "state/platform.yaml",
        )
        files.problems.append(
            definition.problem((*base, "env", name), Code.MCP_VARIABLE_NOT_ALLOWED, message, remedy, key=True)
        )


def _check_values(files: Files, definition: Part[AppDefinition], base: YamlPath, server: McpServer) -> None:
    for place, value in server.values():
        if value.startswith(SECRET):
            try:
                referenced(value)
            except InvalidInput as error:
                files.problems.append(
                    definition.problem((*base, *place), Code.BAD_VALUE, str(error), _WRONG_SECRET)
                )
            if server.registers and place[0] == "headers":
                message = "whoever may register this server would be sent the secret"
                remedy = "remove it, or give the server a `url` in place of `register: true`"
                files.problems.append(definition.problem((*base, *place), Code.BAD_VALUE, message, remedy))
        elif credentials.are_in(value) or _is_named(server, place):
            message = "this looks like a credential, and a repo keeps it for ever"
            files.problems.append(
                definition.problem((*base, *place), Code.SECRET_IN_CONFIG, message, _WRONG_SECRET)
            )
    if server.url and credentials.are_in(server.url):
        message = "there looks to be a credential in this address, and a repo keeps it for ever"
        remedy = "send it in a header, as `headers: {Authorization: secret:<name>}`"
        files.problems.append(definition.problem((*base, "url"), Code.SECRET_IN_CONFIG, message, remedy))


def _is_named(server: McpServer, place: tuple[str, str | int]) -> bool:
    """Whether what stands before a plain value says that it is a credential."""
    match place:
        case _, str(name):
            return credentials.is_field(name)
        case "args", int(position) if position > 0:
            option, value = server.args[position - 1 : position + 1]
            return value != "" and not value.startswith("-") and credentials.is_option(option)
    return False


def _pins(files: Files, definition: AppDefinition) -> dict[str, tuple[PinnedTool, ...]]:
    pinned = {}
    taken: dict[str, str] = {}
    for path in sorted(files.under(PINS, ".json")):
        part = files.model(path, McpPins)
        if part is None:
            continue
        server = path.removeprefix(PINS).removesuffix(".json")
        for index, tool in enumerate(part.model.tools):
            _check_tool(files, part, index, tool)
            # A dot may be written as `__`: what is called by one name must be one tool.
            name = f"{PREFIX}{server}.{tool.name}".replace(".", "__")
            if name in taken:
                message = f"the tool {quoted(tool.name)} has the name of one in {taken[name]} (a dot is __)"
                remedy = "rename the server in mcpServers"
                files.problems.append(
                    part.problem(("tools", index, "name"), Code.DUPLICATE_TOOL, message, remedy)
                )
            taken[name] = path
        if server in definition.mcp_servers:
            offers = definition.mcp_servers[server].offers
            pinned[server] = tuple(tool for tool in part.model.tools if offers(tool.name))
    return pinned


def _check_tool(files: Files, part: Part[McpPins], index: int, tool: PinnedTool) -> None:
    for key, schema in (("inputSchema", tool.input_schema), ("outputSchema", tool.output_schema)):
        if schema is None:
            continue
        for place, code, message, _ in schema_mistakes(schema, OF_OTHERS):
            files.problems.append(part.problem(("tools", index, key, *place), code, message, _SERVERS_OWN))
