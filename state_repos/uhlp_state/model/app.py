"""The definition of a whole app (specification 3.1.2, AppDefinition)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue

from uhlp_state.model.base import AppIdText, Count, Model, any_case
from uhlp_state.model.commands import CommandConfig
from uhlp_state.model.components import ComponentRegistry
from uhlp_state.model.llm import LlmConfig
from uhlp_state.model.mcp_servers import MAX_SERVERS, McpServer, ServerName
from uhlp_state.model.optimization import OptimizationConfig
from uhlp_state.model.pools import SandboxPoolConfig
from uhlp_state.model.security import SecurityConfig

MEBIBYTE = 1024 * 1024


class DefinitionWrites(StrEnum):
    """What becomes of changes that the app's own components make to its definition."""

    REFUSE = "refuse"
    PROPOSE = "propose"


class StateConfig(Model):
    """How the app's state is kept. Accepted and checked; this release does not act on it."""

    type: str = "git_yaml"
    """Default `git_yaml`."""
    params: dict[str, str] = Field(default_factory=dict)
    """Parameters of the type, e.g. `basePath: state/`."""


class AppDefinition(Model):
    """The app (`state/app_definition.yaml`)."""

    app_id: AppIdText
    """The app's id, that of its repo: lower-case letters, digits and single hyphens, at most 39."""
    display_name: str = ""
    """Name for people."""
    version: str = ""
    """The app's own version, in quotes: `"1.0"`."""
    description: str = ""
    """For people."""
    sandbox_pools: SandboxPoolConfig = SandboxPoolConfig()
    """What the components run in."""
    state_store_config: StateConfig = StateConfig()
    """How the state is kept. Accepted and checked; this release does not act on it."""
    configuration: dict[str, JsonValue] = Field(default_factory=dict)
    """Default configuration values of all components. No secrets: the repo keeps every value for ever."""
    commands: CommandConfig = CommandConfig()
    """Programs that the components may run, through `core.linux.executeCommand`."""
    mcp_servers: dict[ServerName, McpServer] = Field(default_factory=dict, max_length=MAX_SERVERS)
    """Other people's MCP servers by name; their tools are `community.<name>.*`. Default none."""
    max_body_bytes: Count = Field(default=10 * MEBIBYTE, ge=0, le=100 * MEBIBYTE)
    """Largest request body in bytes. Default 10 MiB, at most 100 MiB."""
    definition_writes: Annotated[DefinitionWrites, *any_case(DefinitionWrites)] = DefinitionWrites.REFUSE
    """What becomes of changes that the app's own components make to its definition with `core.state` tools:
    `refuse` (default), or `propose`: a branch `proposals/…` to be reviewed. What `main` says counts."""
    llm: LlmConfig | None = None
    """The language models that the app may call."""
    initial_component_registry: ComponentRegistry | None = None
    """The components, instead of `component_registry.yaml`."""
    security_config: SecurityConfig | None = None
    """Keys and permissions, instead of `security_config.yaml`."""
    optimization_config: OptimizationConfig | None = None
    """Rules of optimisation, instead of `optimization_config.yaml`.
    Accepted and checked; this release does not act on it."""
