"""Everything the platform needs of one commit of an app, parsed, checked and immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self

from uhlp_state.model import (
    AllowedMcpServer,
    AppDefinition,
    ComponentDefinition,
    OptimizationConfig,
    PinnedTool,
    Policy,
    PoolDefinition,
    PromptTemplate,
    SecurityConfig,
    ToolDefinition,
)
from uhlp_state.model.policies import CHECKED
from uhlp_state.model.pools import Language


@dataclass(frozen=True, slots=True)
class UiFile:
    """A file under `state/ui/`."""

    blob: str
    """Git's id of the content: a strong ETag."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class AppSnapshot:
    """One validated commit. Its parts are shared with the parse cache: never change them."""

    app: str
    commit: str
    tree: str
    definition: AppDefinition
    components: tuple[ComponentDefinition, ...]
    security: SecurityConfig = field(default_factory=SecurityConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    schemas: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schemas by path relative to `state/`: `schemas/note.json`."""
    prompts: Mapping[str, PromptTemplate] = field(default_factory=dict)
    """Prompts by path relative to `state/`: `prompts/summary.yaml`."""
    ui: Mapping[str, UiFile] = field(default_factory=dict)
    """Static files by path relative to `state/ui/`."""
    shipped_policies: tuple[str, ...] = ()
    """Names of the platform's own policies that are in force."""
    policies: Mapping[str, Policy] = field(default_factory=dict)
    """Policies by name, asked after those that ship: the platform's (`platform/<name>`), then the app's."""
    tools: tuple[ToolDefinition, ...] = ()
    """The app's own tools, in order of their names."""
    mcp_programs: Mapping[str, AllowedMcpServer] = field(default_factory=dict)
    """What the platform allows of the programs that `mcpServers` name, by their names."""
    mcp_pins: Mapping[str, tuple[PinnedTool, ...]] = field(default_factory=dict)
    """The tools that the app offers of each of its `mcpServers`, as they were approved."""
    files: int = 0
    """Number of files in the tree."""
    environments: Mapping[Language, str] = field(default_factory=dict)
    """By language, the hash of the packages that the code asks for; see `dependencies`."""

    @cached_property
    def pools(self) -> Mapping[str, PoolDefinition]:
        """The pools by name."""
        return MappingProxyType({pool.pool_name: pool for pool in self.definition.sandbox_pools.pools})

    def pool_spec(self, name: str) -> str:
        """A short hash of everything that shapes an instance of a pool: its definition and its packages.

        A change of code never changes it. Raises KeyError: there is no such pool.
        """
        pool = self.pools[name]
        environment = self.environments.get(pool.language)
        return f"{pool.spec_hash()}-{environment}" if environment else pool.spec_hash()

    @cached_property
    def _components(self) -> Mapping[str, ComponentDefinition]:
        return {component.component_id: component for component in self.components}

    def component_configuration(self, component_id: str) -> dict[str, Any]:
        """What the component runs with: `merged_configuration`.

        Raises:
            KeyError: there is no such component.
        """
        return merged_configuration(
            self.definition.configuration, self._components[component_id].configuration_overrides
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as in `RegistryDoc` and `RoutesDoc`."""
        return {
            "app": self.app,
            "commit": self.commit,
            "tree": self.tree,
            "definition": self.definition.to_json(),
            "components": [component.to_json() for component in self.components],
            "security": self.security.to_json(),
            "optimization": self.optimization.to_json(),
            "schemas": dict(self.schemas),
            "prompts": {path: prompt.to_json() for path, prompt in self.prompts.items()},
            "ui": {path: {"blob": file.blob, "size": file.size} for path, file in self.ui.items()},
            "shippedPolicies": list(self.shipped_policies),
            "policies": {name: policy.to_json() for name, policy in self.policies.items()},
            "tools": [tool.to_json() for tool in self.tools],
            "mcpPrograms": {name: program.to_json() for name, program in self.mcp_programs.items()},
            "mcpPins": {name: [tool.to_json() for tool in tools] for name, tools in self.mcp_pins.items()},
            "files": self.files,
            "environments": {language.value: digest for language, digest in self.environments.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, pydantic.ValidationError: it is something else.
        """
        return cls(
            app=data["app"],
            commit=data["commit"],
            tree=data["tree"],
            definition=AppDefinition.model_validate(data["definition"]),
            components=tuple(ComponentDefinition.model_validate(item) for item in data["components"]),
            security=SecurityConfig.model_validate(data["security"]),
            optimization=OptimizationConfig.model_validate(data["optimization"]),
            schemas=data["schemas"],
            prompts={path: PromptTemplate.model_validate(prompt) for path, prompt in data["prompts"].items()},
            ui={path: UiFile(**file) for path, file in data["ui"].items()},
            shipped_policies=tuple(data["shippedPolicies"]),
            policies={
                name: Policy.model_validate(policy, context=CHECKED)
                for name, policy in data["policies"].items()
            },
            tools=tuple(ToolDefinition.model_validate(item) for item in data["tools"]),
            mcp_programs={
                name: AllowedMcpServer.model_validate(item) for name, item in data["mcpPrograms"].items()
            },
            mcp_pins={
                name: tuple(PinnedTool.model_validate(item) for item in tools)
                for name, tools in data["mcpPins"].items()
            },
            files=data["files"],
            environments={Language(name): digest for name, digest in data["environments"].items()},
        )


def merged_configuration(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A component's own values over those of the app, mapping by mapping."""
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        merged[key] = (
            merged_configuration(known, value)
            if isinstance(known, dict) and isinstance(value, dict)
            else value
        )
    return merged
