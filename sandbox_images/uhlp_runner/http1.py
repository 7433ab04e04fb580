"""As much of HTTP/1.1 as the doors speak: one request with a Content-Length, one response, keep-alive.

Works on bytes only; used by the persistent workers' loop and by the main process alike.
"""

import json

HEAD_LIMIT = 16384
"""Bytes of request line and headers; the peer is the platform's gateway, which sends a few hundred."""

BODY_LIMIT = 64 << 20
"""Bytes of a request body, above what the gateway lets in (with base64 and JSON escapes around it)."""

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

_STARTS = {
    status: f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: ".encode()
    for status, reason in REASONS.items()
}


class BadRequest(ValueError):
    """What came is not a request these doors take. `status` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def content_length(lowered: bytes) -> int:
    """The body's length from a head in lower case. Raises BadRequest.

    A second Content-Length, a sign or a space within is refused: two readers could then see two bodies.
    """
    start = lowered.find(b"\r\ncontent-length:")
    if start < 0 or lowered.find(b"\r\ntransfer-encoding:") >= 0:
        raise BadRequest(411, "send a Content-Length, and no Transfer-Encoding")
    start += 17
    text = lowered[start : lowered.index(b"\r\n", start)].strip()
    if not text.isdigit() or lowered.find(b"\r\ncontent-length:", start) >= 0:
        raise BadRequest(400, "Content-Length is not one number")
    length = int(text[:20])
    if length > BODY_LIMIT:
        raise BadRequest(413, f"the body is larger than {BODY_LIMIT} bytes")
    return length


def header(head: bytes, lowered: bytes, name: bytes) -> str | None:
    """A header's value, or None. `name` is in lower case; `head` is as received, ending in CRLF."""
    start = lowered.find(b"\r\n" + name + b":")
    if start < 0:
        return None
    start += len(name) + 3
    return head[start : head.index(b"\r\n", start)].strip().decode("latin-1")


def response(status: int, body: bytes, request_id: str | None, close: bool = False) -> bytes:
    """A whole response. `request_id` must have been checked to be printable."""
    start = _STARTS[status]
    end = b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n"
    if request_id is None:
        return b"%b%d%b%b" % (start, len(body), end, body)
    return b"%b%d\r\nX-Request-ID: %b%b%b" % (start, len(body), request_id.encode(), end, body)


def error_body(error: str, details: str) -> bytes:
    """The body of a response that is no result (specification 2.4)."""
    return json.dumps({"error": error, "details": details}).encode()


def is_printable(request_id: str) -> bool:
    """Whether a header's value may be echoed in a header."""
    return request_id.isprintable() and request_id.isascii()
