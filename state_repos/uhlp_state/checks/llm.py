"""LLM access: models of known providers, and the rules of scripted ones."""

from __future__ import annotations

from uhlp_state.checks.parts import Files, Part
from uhlp_state.checks.references import check_file
from uhlp_state.model import AppDefinition, LlmProviderType, ScriptedRules
from uhlp_state.problems import Code, did_you_mean, quoted
from uhlp_state.yaml_source import YamlPath

RULES = "state/llm/"


def check_llm(files: Files, definition: Part[AppDefinition]) -> None:
    """Check what the app's `llm` names."""
    llm = definition.model.llm
    if llm is None:
        return
    names: list[tuple[YamlPath, str]] = [(("llm", "model"), llm.model)]
    names += [(("llm", "fallbacks", index), name) for index, name in enumerate(llm.fallbacks)]
    for place, name in names:
        provider, slash, _ = name.partition("/")
        # With one provider, a slash can only be part of the model's own name.
        if slash and len(llm.providers) > 1 and provider not in llm.providers:
            remedy = did_you_mean(provider, llm.providers, "add the provider to `providers`")
            message = f"there is no provider {quoted(provider)}"
            files.problems.append(definition.problem(place, Code.UNKNOWN_PROVIDER, message, remedy))
    for name, provider_definition in llm.providers.items():
        if provider_definition.type is LlmProviderType.SCRIPTED and provider_definition.file is not None:
            place = ("llm", "providers", name, "file")
            path = check_file(
                files, definition, place, provider_definition.file, RULES, (".yaml",), Code.UNKNOWN_RULES
            )
            if path is not None:
                files.model(path, ScriptedRules)
