"""What the conformance suite asks of a server beyond tools that answer: built on the official SDK.

Tools that ask the client back, resources, prompts, completion, logging and subscriptions. Names and texts are
the suite's.
"""

import base64
import json
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPError
from mcp.types import (
    ClientCapabilities,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field
from suite_tools import PNG

MISSING_CAPABILITY = -32021


def build() -> MCPServer:
    server = MCPServer("uhlp-conformance", version="1")
    _asking_tools(server)
    _changing_tools(server)
    _input_required_tools(server)
    _resources(server)
    _prompts(server)
    _sessions(server)
    return server


class _Person(BaseModel):
    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


class _Defaults(BaseModel):
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: str = Field("active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = True


def _titled(*titles: str) -> list[dict[str, str]]:
    return [{"const": title.lower(), "title": title} for title in titles]


class _Enums(BaseModel):
    untitledSingle: str = Field(json_schema_extra={"enum": ["option1", "option2", "option3"]})
    titledSingle: str = Field(json_schema_extra={"oneOf": _titled("First", "Second", "Third")})
    legacyEnum: str = Field(json_schema_extra={"enum": ["opt1", "opt2"], "enumNames": ["One", "Two"]})
    untitledMulti: list[str] = Field(
        json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2", "option3"]}}
    )
    titledMulti: list[str] = Field(json_schema_extra={"items": {"anyOf": _titled("First", "Second")}})


def _asking_tools(server: MCPServer) -> None:
    """Tools that ask the client while they run, as the revisions with sessions do."""

    @server.tool()
    async def test_tool_with_logging(ctx: Context[Any, Any]) -> str:
        """Log messages."""
        for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(text)
        return "done"

    @server.tool()
    async def test_logging_tool(ctx: Context[Any, Any]) -> str:
        """A log message, which only those get who asked."""
        await ctx.info("for those who asked")
        return "done"

    @server.tool()
    async def test_sampling(prompt: str, ctx: Context[Any, Any]) -> str:
        """An answer of the client's model."""
        result = await ctx.session.create_message(messages=_say(prompt), max_tokens=100)
        return f"LLM response: {getattr(result.content, 'text', '')}"

    async def elicited(ctx: Context[Any, Any], message: str, schema: type[BaseModel]) -> str:
        result = await ctx.elicit(message=message, schema=schema)
        content = result.data.model_dump_json() if result.action == "accept" else "{}"
        return f"User response: action={result.action}, content={content}"

    @server.tool()
    async def test_elicitation(message: str, ctx: Context[Any, Any]) -> str:
        """An answer of the client's user."""
        return await elicited(ctx, message, _Person)

    @server.tool()
    async def test_elicitation_sep1034_defaults(ctx: Context[Any, Any]) -> str:
        """Defaults of every primitive type."""
        return await elicited(ctx, "Please complete", _Defaults)

    @server.tool()
    async def test_elicitation_sep1330_enums(ctx: Context[Any, Any]) -> str:
        """Every form of an enumeration."""
        return await elicited(ctx, "Please choose", _Enums)

    @server.tool()
    async def test_missing_capability(ctx: Context[Any, Any]) -> str:
        """Needs a client that offers sampling."""
        _require(ctx, ClientCapabilities.model_validate({"sampling": {}}))
        return "there is sampling"


def _changing_tools(server: MCPServer) -> None:
    """Tools that tell those who listen that a list has changed."""

    @server.tool()
    async def test_trigger_tool_change(ctx: Context[Any, Any]) -> str:
        """Tells that the tools have changed."""
        await ctx.notify_tools_changed()
        return "told"

    @server.tool()
    async def test_trigger_prompt_change(ctx: Context[Any, Any]) -> str:
        """Tells that the prompts have changed."""
        await ctx.notify_prompts_changed()
        return "told"


def _require(ctx: Context[Any, Any], wanted: ClientCapabilities) -> None:
    if not ctx.session.check_client_capability(wanted):
        data = {"requiredCapabilities": wanted.model_dump(by_alias=True, exclude_none=True)}
        raise MCPError(MISSING_CAPABILITY, "the client lacks a capability", data)


def _say(text: str) -> list[SamplingMessage]:
    return [SamplingMessage(role="user", content=TextContent(type="text", text=text))]


def _elicit(message: str, name: str, kind: str = "string") -> ElicitRequest:
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(text: str) -> CreateMessageRequest:
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=_say(text), max_tokens=100))


def _accepted(ctx: Context[Any, Any], key: str) -> dict[str, Any] | None:
    """What the user answered to an elicitation, if that is there and valid."""
    given = (ctx.input_responses or {}).get(key)
    return given.content if isinstance(given, ElicitResult) and given.action == "accept" else None


def _input_required_tools(server: MCPServer) -> None:
    """Tools that end with questions and are called again with the answers, as revision 2026-07-28 does."""

    @server.tool()
    async def test_input_required_result_elicitation(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Asks the user."""
        answer = _accepted(ctx, "user_name")
        if answer is None or not isinstance(answer.get("name"), str):
            return InputRequiredResult(input_requests={"user_name": _elicit("What is your name?", "name")})
        return f"Hello, {answer['name']}!"

    @server.tool()
    async def test_input_required_result_sampling(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Asks the client's model."""
        if "capital_question" not in (ctx.input_responses or {}):
            question = _sample("What is the capital of France?")
            return InputRequiredResult(input_requests={"capital_question": question})
        return "answered"

    @server.tool()
    async def test_input_required_result_list_roots(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Asks for the client's roots."""
        if "client_roots" not in (ctx.input_responses or {}):
            return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
        return "there are roots"

    async def confirmed(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        if ctx.request_state != "asked" or _accepted(ctx, "confirm") is None:
            request = _elicit("Please confirm", "ok", "boolean")
            return InputRequiredResult(input_requests={"confirm": request}, request_state="asked")
        return "state-ok"

    @server.tool()
    async def test_input_required_result_request_state(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Carries state from round to round."""
        return await confirmed(ctx)

    @server.tool()
    async def test_input_required_result_tampered_state(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Notices state that was changed on the way."""
        return await confirmed(ctx)

    @server.tool()
    async def test_input_required_result_multiple_inputs(
        ctx: Context[Any, Any],
    ) -> str | InputRequiredResult:
        """Asks three things at once."""
        if {"user_name", "greeting", "client_roots"} - (ctx.input_responses or {}).keys():
            return InputRequiredResult(
                input_requests={
                    "user_name": _elicit("What is your name?", "name"),
                    "greeting": _sample("Generate a greeting"),
                    "client_roots": ListRootsRequest(),
                },
                request_state="asked",
            )
        return "all answered"

    @server.tool()
    async def test_input_required_result_multi_round(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Asks twice."""
        if ctx.request_state == "two" and (answer := _accepted(ctx, "step2")):
            return f"{answer['color']} it is"
        if ctx.request_state == "one" and _accepted(ctx, "step1"):
            second = _elicit("Step 2: What is your favorite color?", "color")
            return InputRequiredResult(input_requests={"step2": second}, request_state="two")
        first = _elicit("Step 1: What is your name?", "name")
        return InputRequiredResult(input_requests={"step1": first}, request_state="one")

    @server.tool()
    async def test_input_required_result_capabilities(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Asks only what the client can answer."""
        requests: dict[str, Any] = {}
        for name, request in (("sampling", _sample("Say hello")), ("elicitation", _elicit("Name?", "name"))):
            if ctx.session.check_client_capability(ClientCapabilities.model_validate({name: {}})):
                requests[name] = request
        return InputRequiredResult(input_requests=requests) if requests else "nothing can be asked"

    @server.tool()
    async def test_streaming_elicitation(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Tells progress, then asks."""
        await ctx.report_progress(1, 1)
        if _accepted(ctx, "user_name") is None:
            return InputRequiredResult(input_requests={"user_name": _elicit("What is your name?", "name")})
        return "done"


def _resources(server: MCPServer) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PNG)

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        return "Watched resource content"

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _prompts(server: MCPServer) -> None:
    def text(words: str) -> UserMessage:
        return UserMessage(content=TextContent(type="text", text=words))

    @server.prompt()
    def test_simple_prompt() -> list[UserMessage]:
        """A prompt without arguments."""
        return [text("This is a simple prompt for testing.")]

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
        """A prompt with two arguments."""
        return [text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
        """A prompt with a resource in it."""
        content = TextResourceContents(uri=resourceUri, mime_type="text/plain", text="Embedded content.")
        return [
            UserMessage(content=EmbeddedResource(type="resource", resource=content)),
            text("Please process the embedded resource above."),
        ]

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """A prompt with an image in it."""
        return [
            UserMessage(content=ImageContent(type="image", data=PNG, mime_type="image/png")),
            text("Please analyze the image above."),
        ]

    @server.prompt()
    async def test_input_required_result_prompt(
        ctx: Context[Any, Any],
    ) -> list[UserMessage] | InputRequiredResult:
        """A prompt that asks the user first."""
        answer = _accepted(ctx, "user_context")
        if answer is None:
            question = _elicit("What context should the prompt use?", "context")
            return InputRequiredResult(input_requests={"user_context": question})
        return [text(f"The context is {answer['context']}")]

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Completion:
        return Completion(values=["paris", "park", "party"], total=3, has_more=False)


def _sessions(server: MCPServer) -> None:
    """What only a client with a session may ask."""
    low = server._lowlevel_server  # the SDK's high-level server has no way to add these

    async def done(ctx: Any, params: Any) -> EmptyResult:
        return EmptyResult()

    low.add_request_handler("logging/setLevel", SetLevelRequestParams, done)
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, done)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, done)
