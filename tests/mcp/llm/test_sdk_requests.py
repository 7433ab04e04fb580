"""What the SDKs send is what they would send by themselves, but for what has no business on the wire."""

import math
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from support.fake_llm import FakeLlm
from uhlp_mcp.egress import Egress
from uhlp_mcp.llm.anthropic_messages import _Client as DirectAnthropic
from uhlp_mcp.llm.errors import BadRequest
from uhlp_mcp.llm.openai_chat import OpenAiChat
from uhlp_mcp.llm.openai_chat import _Client as DirectOpenAi
from uhlp_mcp.llm.provider import Message, Request
from uhlp_mcp.llm.sdk_requests import OPTIONS
from uhlp_mcp.llm.wire import Wire

BODY = {"model": "m", "messages": [{"role": "user", "content": "Grüße \N{SNOWMAN}"}], "max_tokens": 5}


@pytest.mark.parametrize(
    ("own", "direct", "path"),
    [
        (openai.AsyncOpenAI, DirectOpenAi, "/v1/chat/completions"),
        (anthropic.AsyncAnthropic, DirectAnthropic, "/v1/messages"),
    ],
)
async def test_requests_are_those_of_the_sdk_itself(
    fake: FakeLlm, monkeypatch: pytest.MonkeyPatch, own: Any, direct: Any, path: str
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody-else")
    wire = Wire(Egress(private_addresses=True))
    for client in (own, direct):
        http = wire.client("alpha", {"authorization": "Bearer k"})
        sdk = client(api_key="unused", base_url=fake.url, max_retries=0, http_client=http)
        answer = await sdk.post(fake.url + path, cast_to=httpx2.Response, body=BODY, options=OPTIONS)
        assert answer.status_code == 200
    by_sdk, by_us = fake.seen
    assert (by_us.path, by_us.body, by_us.headers) == (by_sdk.path, BODY, by_sdk.headers)
    sent = {
        "host",
        "accept",
        "accept-encoding",
        "content-type",
        "content-length",
        "user-agent",
        "authorization",
    }
    assert by_us.headers.keys() - {"anthropic-version"} == sent
    await wire.close()


@pytest.mark.parametrize("direct", [DirectOpenAi, DirectAnthropic])
@pytest.mark.parametrize("wrong", [math.nan, "half a pair: \ud800"])
async def test_what_cannot_be_written_is_not_sent_and_so_not_billed(
    fake: FakeLlm, direct: Any, wrong: object
) -> None:
    wire = Wire(Egress(private_addresses=True))
    sdk = direct(api_key="unused", base_url=fake.url, max_retries=0, http_client=wire.client("alpha", {}))
    with pytest.raises(BadRequest, match="the request cannot be written as JSON") as caught:
        await sdk.post(fake.url, cast_to=httpx2.Response, body={"a": wrong}, options=OPTIONS)
    assert (caught.value.billed, caught.value.retryable, fake.seen) == (False, False, [])
    await wire.close()


async def test_a_body_of_another_kind_is_refused_and_not_left_out() -> None:
    wire = Wire(Egress(private_addresses=True))
    with pytest.raises(TypeError, match="no json here: give all of it as `content`"):
        await wire.client("alpha", {}).post("http://127.0.0.1:1/", json={"a": 1})
    await wire.close()


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        (None, "max_completion_tokens"),
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1/", "max_completion_tokens"),
        ("https://api.openai.com.example.org/v1", "max_tokens"),
        ("https://notapi.openai.com/v1", "max_tokens"),
        ("http://127.0.0.1:11434/v1", "max_tokens"),
    ],
)
async def test_openai_itself_gets_the_limit_of_an_answer_by_its_newer_name(
    base_url: str | None, name: str
) -> None:
    wire = Wire(Egress(private_addresses=True))
    body = OpenAiChat(wire, "alpha", base_url, None, True)._body(
        Request("m", (Message("user", "hi"),), 5, {})
    )
    assert {key: value for key, value in body.items() if key.startswith("max_")} == {name: 5}
    await wire.close()
