"""OpenAI, and every server that speaks its chat completions: vLLM, Ollama, llama.cpp, …"""

import logging
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from uhlp_mcp.llm.errors import ProviderUnavailable, Refused
from uhlp_mcp.llm.gathering import Gathered
from uhlp_mcp.llm.provider import Completion, Request, counted
from uhlp_mcp.llm.sdk_provider import UNUSED_KEY, SdkProvider, parsed
from uhlp_mcp.llm.sdk_requests import OPTIONS, DirectRequests
from uhlp_mcp.llm.strict_schema import strict_form
from uhlp_mcp.llm.wire import Wire
from uhlp_mcp.tools import Emit

# Its debugging lines repeat whole prompts, which belong in no log.
logging.getLogger("openai").setLevel(logging.WARNING)

OPENAI_HOST = "api.openai.com"
DEFAULT_URL = f"https://{OPENAI_HOST}/v1"

_PATH = "/chat/completions"
"""Asked directly: the SDK's method for it would look through the whole body once more, for files and dates
that ours never holds, which takes as long as all the rest of the SDK."""

_PARAMETERS = frozenset(
    {"temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "reasoning_effort"}
)


_UNPARSED: type[openai.AsyncStream[Any]] = openai.AsyncStream[object]
"""Of models it would make one for each part of an event, which takes many times as long as parsing it."""


class _Client(DirectRequests, openai.AsyncOpenAI):
    """The SDK's own, but for how it makes requests."""


class OpenAiChat(SdkProvider):
    """One provider of one app."""

    def __init__(
        self, wire: Wire, app: str, base_url: str | None, key: str | None, structured_output: bool
    ) -> None:
        super().__init__(openai.OpenAIError, key)
        address = base_url or DEFAULT_URL
        self._url = address.rstrip("/") + _PATH
        self._client = _Client(
            api_key=UNUSED_KEY,
            base_url=address,
            max_retries=0,
            http_client=wire.client(app, {"authorization": f"Bearer {key}"} if key else {}),
        )
        self._structured_output = structured_output
        # OpenAI itself no longer takes the old name; servers that speak its protocol often know no other.
        self._max_tokens = "max_completion_tokens" if _is_openai(address) else "max_tokens"

    async def _whole(self, request: Request) -> Completion:
        # Unparsed: the SDK would make its models of what is looked at once, which takes as long as asking.
        response = await self._client.post(
            self._url, cast_to=httpx2.Response, body=self._body(request), options=OPTIONS
        )
        answer = parsed(response)
        [choice, *_] = answer["choices"]
        message, finish = choice["message"], choice.get("finish_reason")
        _check_refusal(message.get("refusal"), finish)
        gathered = Gathered(None)
        await gathered.add(message.get("content") or "")
        usage = answer.get("usage") or {}
        return _completion(
            request, gathered.text, finish, usage.get("prompt_tokens"), usage.get("completion_tokens")
        )

    async def _streamed(self, request: Request, emit: Emit) -> Completion:
        gathered, finish, refusal = Gathered(emit), None, ""
        usage: dict[str, Any] = {}
        body = {**self._body(request), "stream": True, "stream_options": {"include_usage": True}}
        async with await self._client.post(
            self._url,
            cast_to=object,
            body=body,
            stream=True,
            stream_cls=_UNPARSED,
            options=OPTIONS,
        ) as stream:
            async for chunk in stream:
                usage = chunk.get("usage") or usage
                if choices := chunk.get("choices"):
                    choice = choices[0]
                    finish = choice.get("finish_reason") or finish
                    delta = choice.get("delta") or {}
                    refusal += delta.get("refusal") or ""
                    await gathered.add(delta.get("content") or "")
        if finish is None:
            raise ProviderUnavailable("the stream broke off before the answer was whole", billed=True)
        _check_refusal(refusal, finish)
        return _completion(
            request,
            gathered.text,
            finish,
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
        )

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            self._max_tokens: request.max_tokens,
            **{name: value for name, value in request.parameters.items() if name in _PARAMETERS},
        }
        if request.json_schema is not None and self._structured_output:
            form = strict_form(request.json_schema)
            strict = form is not None and form.requires_all
            schema = form.schema if form is not None and strict else request.json_schema
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema, "strict": strict},
            }
        return body


def _is_openai(address: str) -> bool:
    """Whether it is OpenAI's own, whose regions have a host each (`eu.api.openai.com`)."""
    host = urlsplit(address).hostname or ""
    return host == OPENAI_HOST or host.endswith(f".{OPENAI_HOST}")


def _check_refusal(refusal: str | None, finish: str | None) -> None:
    if refusal or finish == "content_filter":
        raise Refused("the model refuses to answer this", billed=True)


def _completion(
    request: Request, text: str, finish: str | None, input_tokens: object, output_tokens: object
) -> Completion:
    prompt = "".join(message.content for message in request.messages)
    return Completion(
        text,
        finish or "stop",
        counted(input_tokens, prompt),
        counted(output_tokens, text),
    )
