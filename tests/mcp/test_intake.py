"""What others send is weighed as parsers will read it: where messages end, how many values they make."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from uhlp_mcp import intake
from uhlp_mcp.intake import EVENTS, LINES, WHOLE, Framing, Intake, Limits, TooMuch
from uhlp_mcp.json_values import has_more_values
from uhlp_mcp.message_memory import MAX_OF_APP

LIMITS = Limits(max_bytes=1000, max_values=10, base_weight=0, value_weight=0)
ROOMY = Limits(max_bytes=1 << 30, max_values=10, base_weight=0, value_weight=0)

# Of what could be taken for the end of a text, or for a value where there is none.
TEXTS = st.text(st.sampled_from('"\\[]{},:\n\u2028é∀😀a'), max_size=8)
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
)


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def messages(given: list[bytes], framing: Framing, limits: Limits = ROOMY) -> list[bytes]:
    return [message async for message in Intake().messages("alpha", pieces(*given), framing, limits)]


def marks(value: Any) -> int:
    """What begins a value: the list or object that it is the first of, or the comma before it."""
    if isinstance(value, dict):
        return 1 + max(len(value) - 1, 0) + sum(map(marks, value.values()))
    if isinstance(value, list):
        return 1 + max(len(value) - 1, 0) + sum(map(marks, value))
    return 0


@given(VALUES, st.booleans())
def test_values_are_counted_and_what_texts_hold_is_not(value: Any, ascii_only: bool) -> None:
    message = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert not has_more_values(message, marks(value))
    assert has_more_values(message, marks(value) - 1) or marks(value) == 0


@given(VALUES, st.binary(max_size=20))
def test_what_follows_a_message_hides_none_of_its_values(value: Any, rest: bytes) -> None:
    message = json.dumps(value).encode() + b" ] \\" + rest
    assert has_more_values(message, marks(value) - 1) or marks(value) == 0


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"data: x", b'data:"[', b": y", b"id: 1"])), st.data()
)
async def test_no_event_comes_with_another(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    cut = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    found = await messages(cut, EVENTS)
    assert b"".join(found) == stream
    decoder = SSEDecoder()
    for message in found:
        events = [event async for event in decoder.aiter_bytes(pieces(message))]
        assert len(events) <= 1
        # What is weighed is what is parsed.
        assert [event.data for event in events if event.data] in ([], [_data(message)])


def _data(message: bytes) -> str:
    return "\n".join(line.removeprefix(b" ").decode() for line in EVENTS.json(message).split(b"\n"))


async def test_an_event_is_passed_on_as_soon_as_it_is_whole() -> None:
    for end in (b"\n\n", b"\r\n\r\n", b"\r\r"):
        stream = b"data: 1" + end + b"data: 2" + end
        one_by_one = [stream[place : place + 1] for place in range(len(stream))]
        assert await messages(one_by_one, EVENTS) == [b"data: 1" + end, b"data: 2" + end]
        assert await messages([stream], EVENTS) == [b"data: 1" + end, b"data: 2" + end]
    assert await messages([b"1\n2", b"2\n", b"\n3"], LINES) == [b"1\n", b"22\n", b"\n", b"3"]
    assert await messages([b"1\n\n", b"2"], WHOLE) == [b"1\n\n2"]


@pytest.mark.parametrize(
    ("framing", "given", "told"),
    [
        (WHOLE, [b"x" * 600] * 2, "larger than 1000 bytes"),
        (LINES, [b"x" * 1000 + b"\n"], "larger than 1000 bytes"),
        (EVENTS, [b"data: 1\n"] * 126, "larger than 1000 bytes"),
        (WHOLE, [b"[" * 11], "more than 10 values"),
        (LINES, [b"1\n", b'["[", {}, "\\\\", {}, [], [], [], [], []]\n'], "more than 10 values"),
        # A quote that is no part of the JSON would turn texts and what is between them around.
        (EVENTS, [b': "\ndata: [[],[],[],[],[],[],"a"]\n\n'], "more than 10 values"),
        (EVENTS, [b'data: "\n\rdata: [[],[],[],[],[],[],"a"]\n\n'], "more than 10 values"),
        (WHOLE, [b'"' * 100 + b"[" * 11], "more than 10 values"),
    ],
)
async def test_too_much_is_refused(framing: Framing, given: list[bytes], told: str) -> None:
    with pytest.raises(TooMuch, match=told):
        await messages(given, framing, LIMITS)


async def test_texts_may_hold_as_many_marks_as_they_like() -> None:
    message = json.dumps({"text": '[{,"\\' * 30}).encode()
    assert await messages([message], WHOLE, LIMITS) == [message]
    event = b"event: message\ndata: " + message + b"\n\n"
    assert await messages([event], EVENTS, LIMITS) == [event]


async def test_the_messages_of_one_app_share_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "RATE", 1 << 40)
    shared = Intake()
    streams = [
        shared.messages(app, pieces(b"x" * (MAX_OF_APP // 2), b"y", b"z"), WHOLE, ROOMY)
        for app in ("alpha", "alpha", "beta")
    ]
    first = asyncio.ensure_future(anext(streams[0]))
    assert len(await first) == MAX_OF_APP // 2 + 2
    with pytest.raises(TooMuch, match=f"under way take the {MAX_OF_APP} bytes that they may"):
        await anext(streams[1])
    assert len(await anext(streams[2])) == MAX_OF_APP // 2 + 2
    await streams[0].aclose()
    again = shared.messages("alpha", pieces(b"x" * MAX_OF_APP), WHOLE, ROOMY)
    assert len(await anext(again)) == MAX_OF_APP
    for stream in (*streams, again):
        await stream.aclose()


async def test_who_sends_more_than_its_rate_waits_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 3))

    monkeypatch.setattr(intake, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(intake, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    monkeypatch.setattr(intake, "RATE", 1000)
    shared = Intake()
    limits = Limits(max_bytes=1000, max_values=10, base_weight=60, value_weight=10)
    # Each of ten bytes and four values: nine of them are less than the burst, of a second.
    lines = b"[[,,xxxxx\n"
    async for _ in shared.messages("alpha", pieces(lines * 11), LINES, limits):
        pass
    assert waits == [0.1, 0.21]
    async for _ in shared.messages("beta", pieces(lines), LINES, limits):
        pass
    assert waits == [0.1, 0.21]
    monkeypatch.setattr(intake, "time", SimpleNamespace(monotonic=lambda: 1010.0))
    async for _ in shared.messages("alpha", pieces(lines), LINES, limits):
        pass
    assert waits == [0.1, 0.21]
