"""Components: unique ids, existing pools, and task details that name what exists."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from uhlp_state.checks.parts import Files, Part
from uhlp_state.checks.references import check_function, check_language, check_prompt, check_schema
from uhlp_state.model import ComponentDefinition, ComponentRegistry, HandlerType, ResultFormat
from uhlp_state.model.pools import DEFAULT_IMAGE, NODE_IMAGE, Language
from uhlp_state.problems import Code, did_you_mean, quoted
from uhlp_state.yaml_source import YamlPath

_TASK_KEYS: dict[HandlerType, tuple[tuple[str, ...], tuple[str, ...]]] = {
    HandlerType.JIT: (("script", "function"), ("language",)),
    HandlerType.LLM: (("prompt_template",), ()),
    HandlerType.WORKFLOW: (("workflowId",), ()),
}
"""Keys of taskDetails: required, optional."""


def check_components(
    files: Files,
    registry: Part[ComponentRegistry],
    pools: Mapping[str, Language] | None,
    workflows: Collection[str],
) -> None:
    """Check every component. `pools` tells what each pool runs; None where they could not be read."""
    first: dict[str, int] = {}
    for index, component in enumerate(registry.model.components):
        at: YamlPath = ("components", index)
        name = component.component_id
        if name in first:
            message = f"the componentId {quoted(name)} is already on line {first[name]}"
            remedy = "give each component its own id"
            files.problems.append(
                registry.problem((*at, "componentId"), Code.DUPLICATE_COMPONENT, message, remedy)
            )
        else:
            first[name] = registry.line((*at, "componentId"))
        if pools is not None and component.target_pool_name not in pools:
            pool = component.target_pool_name
            remedy = did_you_mean(pool, pools, "add the pool to sandboxPools in app_definition.yaml")
            message = f"there is no pool {quoted(pool)}"
            files.problems.append(
                registry.problem((*at, "targetPoolName"), Code.UNKNOWN_POOL, message, remedy)
            )
        for key, schema in (
            ("requestSchema", component.request_schema),
            ("responseSchema", component.response_schema),
        ):
            if schema is not None:
                check_schema(files, registry, (*at, key), schema)
        if component.stream:
            _check_stream(files, registry, at, component)
        if _check_task_keys(files, registry, at, component):
            _check_task(files, registry, at, component, pools or {}, workflows)


def _check_stream(
    files: Files, registry: Part[ComponentRegistry], at: YamlPath, component: ComponentDefinition
) -> None:
    """Only an LLM's answer comes in pieces, and a stream has begun before a status could be chosen."""
    place = (*at, "stream")
    if component.handler_type is not HandlerType.LLM:
        message = f"a {component.handler_type} component does not stream"
        problem = registry.problem(place, Code.BAD_VALUE, message, "remove `stream`", key=True)
    elif component.expected_result_format is ResultFormat.HTTP_RESPONSE:
        message = "a stream cannot be an httpResponse, which chooses its own status"
        remedy = "remove `stream`, or expectedResultFormat"
        problem = registry.problem(place, Code.BAD_VALUE, message, remedy, key=True)
    else:
        return
    files.problems.append(problem)


def _check_task_keys(
    files: Files, registry: Part[ComponentRegistry], at: YamlPath, component: ComponentDefinition
) -> bool:
    """Whether all required keys are there."""
    required, optional = _TASK_KEYS[component.handler_type]
    kind = component.handler_type
    place = (*at, "taskDetails")
    for key in component.task_details:
        if key not in required + optional:
            remedy = did_you_mean(
                key, required + optional, f"a {kind} task takes {', '.join(required + optional)}"
            )
            message = f"unknown key {quoted(key)} in the taskDetails of a {kind} component"
            files.problems.append(
                registry.problem((*place, key), Code.UNKNOWN_KEY, message, remedy, key=True)
            )
    missing = [key for key in required if key not in component.task_details]
    for key in missing:
        message = f"the key {quoted(key)} is missing in the taskDetails of a {kind} component"
        files.problems.append(registry.problem(place, Code.MISSING_KEY, message, f"add `{key}: …`"))
    return not missing


def _check_task(
    files: Files,
    registry: Part[ComponentRegistry],
    at: YamlPath,
    component: ComponentDefinition,
    pools: Mapping[str, Language],
    workflows: Collection[str],
) -> None:
    task = component.task_details
    place = (*at, "taskDetails")
    if component.handler_type is HandlerType.JIT:
        language = check_language(files, registry, place, task)
        check_function(files, registry, place, task["script"], task["function"], language)
        if pools.get(component.target_pool_name, language) is not language:
            image = NODE_IMAGE if language is Language.JAVASCRIPT else DEFAULT_IMAGE
            message = (
                f"the pool {quoted(component.target_pool_name)} does not run {language}, "
                "which this component is written in"
            )
            remedy = f"name a pool with `dockerImage: {image}`, or correct the language in taskDetails"
            problem = registry.problem((*at, "targetPoolName"), Code.LANGUAGE_MISMATCH, message, remedy)
            files.problems.append(problem)
    elif component.handler_type is HandlerType.LLM:
        check_prompt(files, registry, (*place, "prompt_template"), task["prompt_template"])
    elif task["workflowId"] not in workflows:
        wanted = task["workflowId"]
        remedy = did_you_mean(wanted, workflows, "add a file in state/workflows/ with this workflowId")
        message = f"no workflow has the id {quoted(wanted)}"
        files.problems.append(
            registry.problem((*place, "workflowId"), Code.UNKNOWN_WORKFLOW, message, remedy)
        )
