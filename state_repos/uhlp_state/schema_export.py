"""JSON Schemas of the YAML files, derived from the model, for editors.

`python -m uhlp_state.schema_export` writes them anew into the checkout. An editor finds them by a first line
`# yaml-language-server: $schema=<path or URL>` in the YAML file.
"""

from __future__ import annotations

from typing import Any

import orjson

from uhlp_state.assets import assets_folder
from uhlp_state.model import (
    AppDefinition,
    ComponentRegistry,
    McpPins,
    Model,
    OptimizationConfig,
    Policy,
    PromptTemplate,
    ScriptedRules,
    SecurityConfig,
    ToolDefinition,
    Workflow,
)
from uhlp_state.platform import PlatformDefinition

_FILES: dict[str, type[Model]] = {
    "app_definition": AppDefinition,
    "component_registry": ComponentRegistry,
    "security_config": SecurityConfig,
    "optimization_config": OptimizationConfig,
    "platform": PlatformDefinition,
    "policy": Policy,
    "workflow": Workflow,
    "prompt": PromptTemplate,
    "tool": ToolDefinition,
    "scripted_rules": ScriptedRules,
    "mcp_pins": McpPins,
}


def export_schemas() -> dict[str, dict[str, Any]]:
    """All schemas by file name: `app_definition.schema.json`, …"""
    return {
        f"{name}.schema.json": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **kind.model_json_schema(by_alias=True),
        }
        for name, kind in _FILES.items()
    }


def serialise(schema: dict[str, Any]) -> bytes:
    """A schema as the file's content."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def main() -> None:
    """Write the schemas into the assets folder."""
    folder = assets_folder("schemas")
    for name, schema in export_schemas().items():
        (folder / name).write_bytes(serialise(schema))


if __name__ == "__main__":
    main()
