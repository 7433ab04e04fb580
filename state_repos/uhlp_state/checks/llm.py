"""LLM access: there for components that need it, models of known providers, the rules of scripted ones."""

from __future__ import annotations

from uhlp_state.checks.parts import Files, Part
from uhlp_state.checks.references import PROMPTS, check_file
from uhlp_state.model import (
    AppDefinition,
    ComponentRegistry,
    HandlerType,
    LlmConfig,
    LlmProviderType,
    ScriptedRules,
)
from uhlp_state.problems import Code, Problem, did_you_mean, quoted
from uhlp_state.yaml_source import YamlPath

RULES = "state/llm/"


def check_llm(
    files: Files, definition: Part[AppDefinition], registry: Part[ComponentRegistry] | None
) -> None:
    """Check what the app's `llm` names, and that it is there if a component asks a model."""
    llm = definition.model.llm
    if llm is None:
        if registry is not None:
            _check_need(files, registry)
        return
    names: list[tuple[YamlPath, str]] = [(("llm", "model"), llm.model)]
    names += [(("llm", "fallbacks", index), name) for index, name in enumerate(llm.fallbacks)]
    for place, name in names:
        if wrong := _unknown_provider(llm, name):
            files.problems.append(definition.problem(place, Code.UNKNOWN_PROVIDER, *wrong))
    _check_models_of_prompts(files, llm)
    for name, provider_definition in llm.providers.items():
        if provider_definition.type is LlmProviderType.SCRIPTED and provider_definition.file is not None:
            place = ("llm", "providers", name, "file")
            path = check_file(
                files, definition, place, provider_definition.file, RULES, (".yaml",), Code.UNKNOWN_RULES
            )
            if path is not None:
                files.model(path, ScriptedRules)


def _check_need(files: Files, registry: Part[ComponentRegistry]) -> None:
    """Nothing but an app's own definition names models: without them each call would fail."""
    for index, component in enumerate(registry.model.components):
        if component.handler_type is HandlerType.LLM:
            place: YamlPath = ("components", index, "handlerType")
            message = f"{quoted(component.component_id)} asks a language model, but the app has no `llm`"
            remedy = "write `llm:` with `providers` and `model` in app_definition.yaml"
            files.problems.append(registry.problem(place, Code.LLM_NOT_CONFIGURED, message, remedy))
            return


def _check_models_of_prompts(files: Files, llm: LlmConfig) -> None:
    for path in files.under(PROMPTS, ".yaml"):
        source = files.prompt(path)
        if source is None or source.prompt.model is None:
            continue
        if wrong := _unknown_provider(llm, source.prompt.model):
            files.problems.append(Problem(path, *source.model_place, Code.UNKNOWN_PROVIDER, *wrong))


def _unknown_provider(llm: LlmConfig, name: str) -> tuple[str, str] | None:
    """What is wrong with a model's name, and how to mend it; None if nothing is."""
    provider, slash, _ = name.partition("/")
    # With one provider, a slash can only be part of the model's own name.
    if not slash or len(llm.providers) == 1 or provider in llm.providers:
        return None
    remedy = did_you_mean(provider, llm.providers, "add the provider to `providers`")
    return f"there is no provider {quoted(provider)}", remedy
