"""Components and their routes (specification 3.1.2, ComponentRegistry)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue

from uhlp_state.model.base import Flag, Model, Name, any_case, refusal
from uhlp_state.model.patterns import COMPONENT_ID
from uhlp_state.problems import Code
from uhlp_state.routes import RouteError, RoutePattern


class HandlerType(StrEnum):
    """What answers a component's requests."""

    LLM = "LLM"
    JIT = "JIT"
    WORKFLOW = "WORKFLOW"


class ResultFormat(StrEnum):
    """What kind of result a component promises (specification 2.4)."""

    GENERIC = "generic"
    HTTP_RESPONSE = "httpResponse"
    ERROR = "error"


class HttpMethod(StrEnum):
    """Methods that a route may answer. HEAD follows from GET."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    PATCH = "PATCH"
    OPTIONS = "OPTIONS"
    HEAD = "HEAD"


def _check_pattern(text: str) -> str:
    try:
        RoutePattern.parse(text)
    except RouteError as error:
        raise refusal(Code.BAD_ROUTE, error.message, error.remedy) from error
    return text


class RouteMatcher(Model):
    """The HTTP requests that a component answers."""

    path_pattern: Annotated[str, AfterValidator(_check_pattern)] = Field(max_length=1024)
    """`/static/segments`, `:name` for one segment, `*name` last for all the rest: `/api/users/:id`."""
    methods: tuple[Annotated[HttpMethod, *any_case(HttpMethod)], ...] = ()
    """HTTP methods. None means GET; HEAD follows from GET."""
    permission: Name | None = None
    """What the API key that comes with such a request must permit (`permissions` in `security_config.yaml`).
    Default: no key is needed."""


class ComponentDefinition(Model):
    """One logical part of an app: a handler, a prompt or a workflow."""

    component_id: str = Field(pattern=COMPONENT_ID)
    """Unique in the app; a label of logs and metrics."""
    description: str = ""
    """For people."""
    handler_type: Annotated[HandlerType, *any_case(HandlerType)]
    """JIT: a function of a script. LLM: a prompt. WORKFLOW: a workflow, which is accepted and checked; this
    release does not act on it and answers 501 `HANDLER_TYPE_NOT_AVAILABLE`. In any letter case."""
    target_pool_name: str
    """The pool that it runs in."""
    task_details: dict[str, str] = Field(default_factory=dict)
    """For JIT `script`, `function` and `language` (`python`, the default, or `javascript`, which
    needs a pool with `dockerImage: uhlp/node_runner`); for LLM `prompt_template`;
    for WORKFLOW `workflowId`. Paths are relative to `state/`."""
    expected_result_format: Annotated[ResultFormat, *any_case(ResultFormat)] | None = None
    """`generic`: any result is data, answered as JSON. `httpResponse`: a result without `statusCode` is a
    failure. Without it the result's shape decides."""
    stream: Flag = False
    """True answers as server-sent events while the LLM writes, to clients that take them; LLM only."""
    route_matcher: RouteMatcher | None = None
    """The HTTP requests that it answers; none if it is called by other means only."""
    configuration_overrides: dict[str, JsonValue] = Field(default_factory=dict)
    """Configuration values of this component, over those of the app."""
    request_schema: str | None = None
    """JSON Schema of the request's JSON body, relative to `state/`: `schemas/note.json`."""
    response_schema: str | None = None
    """JSON Schema of the result, relative to `state/`."""


class ComponentRegistry(Model):
    """All components of an app (`state/component_registry.yaml`)."""

    components: tuple[ComponentDefinition, ...] = ()
    """The components, by unique id."""
