"""The app model: what the YAML files of a state repo say, as typed and frozen classes (specification 3.1.2).

The classes are the single source of the format: the validator, the JSON Schemas for editors and the
documentation all derive from them. YAML names are the specification's camelCase, Python names snake_case.
"""

from uhlp_state.model.app import AppDefinition, DefinitionWrites, StateConfig
from uhlp_state.model.base import Model
from uhlp_state.model.components import (
    ComponentDefinition,
    ComponentRegistry,
    HandlerType,
    HttpMethod,
    ResultFormat,
    RouteMatcher,
)
from uhlp_state.model.llm import (
    BudgetScope,
    LlmBudget,
    LlmConfig,
    LlmPrice,
    LlmProvider,
    LlmProviderType,
    LlmRetries,
)
from uhlp_state.model.llm_scripted import (
    ScriptedFailure,
    ScriptedMatch,
    ScriptedReply,
    ScriptedRule,
    ScriptedRules,
)
from uhlp_state.model.mcp_servers import AllowedMcpServer, McpPins, McpServer, PinnedTool
from uhlp_state.model.optimization import (
    MetricCondition,
    OptimizationAction,
    OptimizationConfig,
    OptimizationRule,
)
from uhlp_state.model.policies import Policy, PolicyAction, PolicyEvent, PolicyRule, ShippedPolicy
from uhlp_state.model.pools import ExecutionMode, Isolation, PoolDefinition, ResourceLimits, SandboxPoolConfig
from uhlp_state.model.prompts import OutputFormat, PromptExample, PromptTemplate
from uhlp_state.model.security import (
    ApiKeyDefinition,
    InterAppPermission,
    SecurityConfig,
    UserRoleDefinition,
)
from uhlp_state.model.tools import ToolAnnotations, ToolDefinition
from uhlp_state.model.workflows import (
    StepType,
    Transition,
    Transitions,
    Workflow,
    WorkflowStep,
    WorkflowTrigger,
)

__all__ = [
    "AllowedMcpServer",
    "ApiKeyDefinition",
    "AppDefinition",
    "BudgetScope",
    "ComponentDefinition",
    "ComponentRegistry",
    "DefinitionWrites",
    "ExecutionMode",
    "HandlerType",
    "HttpMethod",
    "InterAppPermission",
    "Isolation",
    "LlmBudget",
    "LlmConfig",
    "LlmPrice",
    "LlmProvider",
    "LlmProviderType",
    "LlmRetries",
    "McpPins",
    "McpServer",
    "MetricCondition",
    "Model",
    "OptimizationAction",
    "OptimizationConfig",
    "OptimizationRule",
    "OutputFormat",
    "PinnedTool",
    "Policy",
    "PolicyAction",
    "PolicyEvent",
    "PolicyRule",
    "PoolDefinition",
    "PromptExample",
    "PromptTemplate",
    "ResourceLimits",
    "ResultFormat",
    "RouteMatcher",
    "SandboxPoolConfig",
    "ScriptedFailure",
    "ScriptedMatch",
    "ScriptedReply",
    "ScriptedRule",
    "ScriptedRules",
    "SecurityConfig",
    "ShippedPolicy",
    "StateConfig",
    "StepType",
    "ToolAnnotations",
    "ToolDefinition",
    "Transition",
    "Transitions",
    "UserRoleDefinition",
    "Workflow",
    "WorkflowStep",
    "WorkflowTrigger",
]
