"""What a provider may answer: an answer that holds up or fills this process is not read, whatever it is.

An app chooses its providers, so each of these is an attack of one app on all others.
"""

import bz2
import json
from typing import Any

import pytest

from support.fake_llm import FakeLlm, Say
from support.llm_desk import Desk, anthropic, at, failing, openai

BOTH = pytest.mark.parametrize("kind", [openai, anthropic])


async def _emit(_: str, *, scripted: bool = False) -> None:
    """Nobody listens."""


def _hostile(answer: bytes, stream: bool) -> Say:
    """A body of any size and shape, in the form that was asked for."""
    if not stream:
        return Say(raw=answer)
    return Say(raw=b"event: x\ndata: " + answer + b"\n\n", headers={"Content-Type": "text/event-stream"})


@BOTH
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b'{"choices": [' + b"[]," * 5000 + b"[]]}", "more than 10000 values"),
        (b'{"choices": ' + b'{"a":' * 10_001 + b"1" + b"}" * 10_002, "more than 10000 values"),
        (b'"' + b"x" * (4 << 20) + b'"', "larger than 4194304 bytes"),
    ],
)
async def test_an_answer_that_takes_long_to_read_is_not_read(
    desk: Desk, fake: FakeLlm, kind: Any, stream: bool, answer: bytes, text: str
) -> None:
    """One of 15 MiB holds all apps' calls up for a second, and takes 430 MiB."""

    fake.otherwise = _hostile(answer, stream)
    await desk.configure(at(kind, fake, retries={"max": 2}))
    error = await failing(desk, _emit if stream else None)
    assert (error.code, error.billed, error.retryable) == ("LLM_UNAVAILABLE", True, False)
    assert str(error).startswith("the provider's answer is not read: it ") and text in str(error)
    assert len(fake.seen) == 1  # the next answer would be no better
    assert (await desk.counted())["tokens"] > 100


@BOTH
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_nested_deeply_is_not_read(
    desk: Desk, fake: FakeLlm, kind: Any, stream: bool
) -> None:
    fake.otherwise = _hostile(b"[" * 9000 + b"]" * 9000, stream)
    await desk.configure(at(kind, fake))
    error = await failing(desk, _emit if stream else None)
    assert (error.code, str(error), error.billed) == (
        "LLM_UNAVAILABLE",
        "the provider's answer cannot be read",
        True,
    )


@BOTH
@pytest.mark.parametrize("stream", [False, True])
async def test_a_long_answer_full_of_lists_is_read(
    desk: Desk, fake: FakeLlm, kind: Any, stream: bool
) -> None:
    """Its text is one value, whatever is in it."""
    told: list[str] = []

    async def emit(piece: str, *, scripted: bool = False) -> None:
        told.append(piece)

    text = '["\\é", {}],\n' * 8000
    usage: dict[str, Any] = {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "input_tokens": 1,
        "output_tokens": 2,
    }
    if not stream:
        fake.otherwise = Say(text)
    else:
        chunk = {"choices": [{"delta": {"content": text}, "finish_reason": "stop"}], "usage": usage}
        events = [
            {"type": "message_start", "message": {"usage": usage}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        ]
        raw = "".join(
            f"event: x\r\ndata: {json.dumps(event)}\r\n\r\n"
            for event in ([chunk] if kind is openai else events)
        )
        fake.otherwise = Say(raw=raw.encode(), headers={"Content-Type": "text/event-stream"})
    await desk.configure(at(kind, fake))
    assert (await desk.ask(None, emit if stream else None))["completion"] == text
    assert told == ([text] if stream else [])


@BOTH
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "body", [b"x" * 65_537, b"[" * 2000, b'{"error": {"message": "no"}}' + b" " * 65_536]
)
async def test_an_error_that_says_too_much_is_known_by_its_status(
    desk: Desk, fake: FakeLlm, kind: Any, stream: bool, body: bytes
) -> None:
    fake.otherwise = Say(status=429, raw=body, headers={"Retry-After": "7"})
    await desk.configure(at(kind, fake))
    error = await failing(desk, _emit if stream else None)
    assert (error.code, error.retry_after, error.billed) == ("LLM_RATE_LIMITED", 7.0, False)
    assert str(error) == "the provider limits its calls"


@BOTH
@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_chooses_no_encoding(desk: Desk, fake: FakeLlm, kind: Any, status: int) -> None:
    """Some would unpack it, and some would hide from who weighs it what is in it."""
    body = json.dumps({"error": {"message": "é"}}, ensure_ascii=False)
    for encoding in ("utf-16", "bz2"):
        raw = bz2.compress(body.encode()) if encoding == "bz2" else body.encode(encoding)
        fake.otherwise = Say(
            status=status, raw=raw, headers={"Content-Type": f"application/json; charset={encoding}"}
        )
        await desk.configure(at(kind, fake))
        error = await failing(desk)
        assert error.code == ("LLM_UNAVAILABLE" if status == 200 else "LLM_BAD_REQUEST")
        assert "é" not in str(error)
