"""Anthropic's Messages API."""

import logging
from typing import Any

import anthropic
import httpx2

from uhlp_mcp.llm.errors import ProviderUnavailable, Refused
from uhlp_mcp.llm.gathering import Gathered
from uhlp_mcp.llm.provider import Completion, Request, counted
from uhlp_mcp.llm.sdk_provider import UNUSED_KEY, SdkProvider, parsed
from uhlp_mcp.llm.sdk_requests import OPTIONS, DirectRequests
from uhlp_mcp.llm.strict_schema import strict_form
from uhlp_mcp.llm.wire import Wire
from uhlp_mcp.tools import Emit

# Its debugging lines repeat whole prompts, which belong in no log.
logging.getLogger("anthropic").setLevel(logging.WARNING)

DEFAULT_URL = "https://api.anthropic.com"

_PATH = "/v1/messages"
"""Asked directly and unparsed, as with OpenAI's; and the SDK's method for it no longer knows all parameters,
of which newer models take fewer: the API knows which model takes what."""

_PARAMETERS = frozenset({"temperature", "top_p", "top_k"})
_FINISH_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}
"""In the words of the other providers; what is not listed keeps its name."""


_UNPARSED: type[anthropic.AsyncStream[Any]] = anthropic.AsyncStream[object]
"""As with OpenAI's."""


class _Client(DirectRequests, anthropic.AsyncAnthropic):
    """The SDK's own, but for how it makes requests."""


class AnthropicMessages(SdkProvider):
    """One provider of one app."""

    def __init__(
        self, wire: Wire, app: str, base_url: str | None, key: str | None, structured_output: bool
    ) -> None:
        super().__init__(anthropic.AnthropicError, key)
        address = base_url or DEFAULT_URL
        self._url = address.rstrip("/") + _PATH
        self._client = _Client(
            api_key=UNUSED_KEY,
            base_url=address,
            max_retries=0,
            http_client=wire.client(app, {"x-api-key": key} if key else {}),
        )
        self._structured_output = structured_output

    async def _whole(self, request: Request) -> Completion:
        response = await self._client.post(
            self._url, cast_to=httpx2.Response, body=self._body(request), options=OPTIONS
        )
        answer = parsed(response)
        gathered = Gathered(None)
        for block in answer["content"]:
            if block.get("type") == "text":
                await gathered.add(block["text"])
        usage = answer.get("usage") or {}
        return _completion(
            request,
            gathered.text,
            answer.get("stop_reason"),
            usage.get("input_tokens"),
            usage.get("output_tokens"),
        )

    async def _streamed(self, request: Request, emit: Emit) -> Completion:
        gathered, finish = Gathered(emit), None
        input_tokens: object = None
        output_tokens: object = None
        async with await self._client.post(
            self._url,
            cast_to=object,
            body={**self._body(request), "stream": True},
            stream=True,
            stream_cls=_UNPARSED,
            options=OPTIONS,
        ) as stream:
            async for event in stream:
                kind = event["type"]
                if kind == "message_start":
                    input_tokens = event["message"]["usage"].get("input_tokens")
                elif kind == "content_block_delta" and event["delta"]["type"] == "text_delta":
                    await gathered.add(event["delta"]["text"])
                elif kind == "message_delta":
                    finish = event["delta"].get("stop_reason") or finish
                    output_tokens = event["usage"].get("output_tokens")
        if finish is None:
            raise ProviderUnavailable("the stream broke off before the answer was whole", billed=True)
        return _completion(request, gathered.text, finish, input_tokens, output_tokens)

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [
                {"role": message.role, "content": message.content}
                for message in request.messages
                if message.role != "system"
            ],
            "max_tokens": request.max_tokens,
            **{name: value for name, value in request.parameters.items() if name in _PARAMETERS},
        }
        if system := "\n\n".join(message.content for message in request.messages if message.role == "system"):
            body["system"] = system
        if (stop := request.parameters.get("stop")) is not None:
            body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        if request.json_schema is not None and self._structured_output:
            form = strict_form(request.json_schema)
            if form is not None:
                body["output_config"] = {"format": {"type": "json_schema", "schema": form.schema}}
        return body


def _completion(
    request: Request, text: str, finish: str | None, input_tokens: object, output_tokens: object
) -> Completion:
    if finish == "refusal":
        raise Refused("the model refuses to answer this", billed=True)
    prompt = "".join(message.content for message in request.messages)
    return Completion(
        text,
        _FINISH_REASONS.get(finish or "", finish or "stop"),
        counted(input_tokens, prompt),
        counted(output_tokens, text),
    )
