"""A response of the gateway's server, and its bytes in HTTP/1.1: the head, and the chunks of a stream."""

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, Self

WITHOUT_BODY = frozenset({204, 304})
LAST_CHUNK = b"0\r\n\r\n"

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class Pieces(Protocol):
    """A body that is made while it is sent."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes:
        """The next piece, never empty. Raises nothing but CancelledError and StopAsyncIteration."""
        ...

    async def aclose(self) -> None:
        """Called once it is no longer wanted, complete or not."""
        ...


class Response:
    """What the handler answers. `Content-Length`, `Date` and `Connection` are the server's to add."""

    __slots__ = ("body", "close", "headers", "pieces", "status")

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.pieces: Pieces | None = None
        """The body instead of `body`, sent piece by piece as the client takes it."""
        self.close = False
        """End the connection after this response."""


def head(status: int, headers: list[tuple[str, str]], framing: str, *, keep: bool) -> bytes:
    """Status line and headers. `framing` is the line that says where the body ends, or nothing."""
    text = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
    for name, value in headers:
        text += f"{name}: {value}\r\n"
    text += framing + _date_line() + ("\r\n" if keep else "Connection: close\r\n\r\n")
    return text.encode("utf-8", "surrogateescape")


def chunk(piece: bytes) -> bytes:
    """A piece of a body whose length nobody knows yet; never empty, which would be the end."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


_date: tuple[int, str] = (0, "")


def _date_line() -> str:
    """The Date header, made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n")
    return _date[1]
