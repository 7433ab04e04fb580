"""Is this tree a valid app? Every problem at once, or the snapshot to serve.

Reads through a `TreeSource` only; the same validator serves pushes, the command line and the daemons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from uhlp_state.checks.commands import check_commands
from uhlp_state.checks.components import check_components
from uhlp_state.checks.dependencies import check_dependencies
from uhlp_state.checks.llm import check_llm
from uhlp_state.checks.mcp_servers import check_mcp_servers
from uhlp_state.checks.parts import Files, Part
from uhlp_state.checks.policies import POLICIES, check_policies
from uhlp_state.checks.pools import check_pools
from uhlp_state.checks.prompts import check_component_prompts, check_prompts
from uhlp_state.checks.references import CODE, PROMPTS, SCHEMAS, STATE
from uhlp_state.checks.routes import check_permissions, check_routes
from uhlp_state.checks.tools import TOOLS, check_tools
from uhlp_state.checks.tree import check_tree
from uhlp_state.checks.unread import check_unread
from uhlp_state.checks.workflows import WORKFLOWS, check_workflows
from uhlp_state.dependencies import dependencies
from uhlp_state.model import (
    AppDefinition,
    ComponentRegistry,
    Model,
    OptimizationConfig,
    PinnedTool,
    Policy,
    SecurityConfig,
    ToolDefinition,
)
from uhlp_state.model.mcp_servers import PINS
from uhlp_state.parse_cache import ParseCache
from uhlp_state.platform import PlatformDefinition
from uhlp_state.problems import Code, Problem, did_you_mean, quoted
from uhlp_state.snapshot import AppSnapshot, UiFile
from uhlp_state.tree_source import TreeSource

DEFINITION = "state/app_definition.yaml"
REGISTRY = "state/component_registry.yaml"
SECURITY = "state/security_config.yaml"
OPTIMIZATION = "state/optimization_config.yaml"
UI = "state/ui/"

_FILES = (DEFINITION, REGISTRY, SECURITY, OPTIMIZATION)
_FOLDERS = {
    # Data in JSON may well lie beside tools and prompts; beside policies there is nothing but policies.
    POLICIES: (".yaml", ".yml", ".json"),
    TOOLS: (".yaml", ".yml"),
    PROMPTS: (".yaml", ".yml"),
    WORKFLOWS: (".yaml", ".yml"),
    PINS: (".json", ".yaml", ".yml"),
}
"""Folders whose files are definitions, as `check_unread` takes them."""

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Validation:
    """What came of it. There is a snapshot if, and only if, there are no problems."""

    snapshot: AppSnapshot | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Parts:
    """The definition files, each None where it is missing or has problems."""

    definition: Part[AppDefinition] | None
    registry: Part[ComponentRegistry] | None
    security: Part[SecurityConfig] | None
    optimization: Part[OptimizationConfig] | None


def validate(
    source: TreeSource,
    app: str,
    *,
    cache: ParseCache | None = None,
    platform: PlatformDefinition | None = None,
    commit: str = "",
    tree: str = "",
) -> Validation:
    """Check a tree as the app `app`.

    Args:
        source: the tree.
        app: the id that the definition must carry.
        cache: remembers parse results by blob; share one between calls.
        platform: quotas and allowed images and mounts; the defaults if None.
        commit: id for the snapshot.
        tree: id for the snapshot.

    Raises:
        OSError, or whatever else the source raises where it cannot be read; no content of it raises.
    """
    entries = source.entries()
    problems = check_tree(entries)
    if any(not problem.file for problem in problems):
        return Validation(None, tuple(problems))
    files = Files(source, entries, {problem.file for problem in problems}, cache or ParseCache())
    parts = _read_parts(files)
    platform = platform or PlatformDefinition()
    _check_all(files, parts, app, platform)
    known = (
        {component.component_id for component in parts.registry.model.components} if parts.registry else None
    )
    tools = check_tools(files, known)
    policies = check_policies(files, platform, known)
    pins = check_mcp_servers(files, parts.definition, platform) if parts.definition else {}
    _check_files(files)
    problems += files.problems
    if problems:
        return Validation(None, tuple(sorted(problems)))
    snapshot = _snapshot(files, parts, tools, policies, pins, platform, app, commit, tree, len(entries))
    return Validation(snapshot, ())


def _read_parts(files: Files) -> _Parts:
    misnamed = check_unread(files, _FILES, _FOLDERS)
    definition = files.model(DEFINITION, AppDefinition)
    is_missing = DEFINITION not in files and DEFINITION not in misnamed
    if is_missing:
        _report_missing(files, DEFINITION)
    inline = definition.model if definition else None
    registry = inline.initial_component_registry if inline else None
    security = inline.security_config if inline else None
    optimization = inline.optimization_config if inline else None
    parts = _Parts(
        definition,
        _part(files, definition, "initialComponentRegistry", registry, REGISTRY, ComponentRegistry),
        _part(files, definition, "securityConfig", security, SECURITY, SecurityConfig),
        _part(files, definition, "optimizationConfig", optimization, OPTIMIZATION, OptimizationConfig),
    )
    # A definition that cannot be read may hold the components inline: then nothing is known to be missing.
    is_known = definition is not None or is_missing
    if is_known and parts.registry is None and REGISTRY not in files and REGISTRY not in misnamed:
        _report_missing(files, REGISTRY)
    return parts


def _part(
    files: Files, definition: Part[AppDefinition] | None, key: str, inline: M | None, path: str, kind: type[M]
) -> Part[M] | None:
    """One piece of the definition: inline in the definition, or in a file of its own, but not in both."""
    if definition is None or inline is None:
        return files.model(path, kind)
    if path in files:
        message = f"{quoted(key)} is given here and in {path}"
        problem = definition.problem(
            (key,), Code.DUPLICATE_DEFINITION, message, "keep one of the two", key=True
        )
        files.problems.append(problem)
    return Part(inline, definition.file, definition.document, (key,))


def _report_missing(files: Files, path: str) -> None:
    remedy = did_you_mean(path, files.under(STATE, ".yaml", ".yml"), f"add {path}")
    files.problems.append(Problem(path, 1, 1, Code.MISSING_FILE, "the file is missing", remedy))


def _check_all(files: Files, parts: _Parts, app: str, platform: PlatformDefinition) -> None:
    definition = parts.definition
    pools = None
    if definition is not None:
        pools = {pool.pool_name: pool.language for pool in definition.model.sandbox_pools.pools}
        check_pools(files, definition, platform)
        check_commands(files, definition, platform)
        check_llm(files, definition, parts.registry)
        if definition.model.app_id != app:
            message = f"the appId {quoted(definition.model.app_id)} is not that of this repo, {quoted(app)}"
            problem = definition.problem(("appId",), Code.APP_ID_MISMATCH, message, f"write `appId: {app}`")
            files.problems.append(problem)
    workflows = check_workflows(files)
    check_prompts(files)
    if parts.registry is not None:
        check_components(files, parts.registry, pools, workflows)
        check_component_prompts(files, parts.registry, definition)
        check_routes(files, parts.registry)
        if parts.security is not None:
            check_permissions(files, parts.registry, parts.security.model)
    check_dependencies(files)


def _check_files(files: Files) -> None:
    """Check what no definition has named: every file of a known kind must be well-formed."""
    for path in files.under(CODE, ".py"):
        files.python_names(path)
    for path in files.under(SCHEMAS, ".json"):
        files.schema(path)
    for path in files.under(STATE, ".yaml", ".yml"):
        if not path.startswith(UI):
            files.check_yaml(path)


def _snapshot(
    files: Files,
    parts: _Parts,
    tools: tuple[ToolDefinition, ...],
    policies: dict[str, Policy],
    pins: dict[str, tuple[PinnedTool, ...]],
    platform: PlatformDefinition,
    app: str,
    commit: str,
    tree: str,
    count: int,
) -> AppSnapshot:
    definition, registry = parts.definition, parts.registry
    assert definition is not None and registry is not None, "missing files are problems"
    return AppSnapshot(
        app=app,
        commit=commit,
        tree=tree,
        definition=definition.model,
        components=registry.model.components,
        security=parts.security.model if parts.security else SecurityConfig(),
        optimization=parts.optimization.model if parts.optimization else OptimizationConfig(),
        schemas={path.removeprefix(STATE): files.schema(path) for path in files.under(SCHEMAS, ".json")},
        prompts={
            path.removeprefix(STATE): source.prompt
            for path in files.under(PROMPTS, ".yaml")
            if (source := files.prompt(path)) is not None
        },
        ui={
            path.removeprefix(UI): UiFile(files[path].blob, files[path].size) for path in files.under(UI, "")
        },
        shipped_policies=tuple(platform.shipped_policies),
        policies=policies,
        tools=tools,
        mcp_programs={
            server.command: platform.mcp_programs[server.command]
            for server in definition.model.mcp_servers.values()
            if server.command is not None
        },
        mcp_pins=pins,
        files=count,
        environments={wanted.language: wanted.digest for wanted in dependencies(files.installable)},
    )
