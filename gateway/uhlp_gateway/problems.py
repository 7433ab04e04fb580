"""The gateway's own errors, told to clients as RFC 9457 `application/problem+json`.

Nothing in here reveals what happened inside a sandbox: tracebacks and violations of a response schema go to
the app's log, and the `requestId` of a problem finds them there.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson

from uhlp_core.errors import UhlpError
from uhlp_gateway.http_wire import Response

CONTENT_TYPE = "application/problem+json"
SERVER = "uhlp"
REQUEST_ID_HEADER = "X-Request-ID"


class Problem(UhlpError):
    """Ends a request with an HTTP status and a problem document."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, code=code)
        self.status = status
        self.headers = headers or {}
        self.extra = extra or {}

    def document(self, request_id: str, instance: str) -> dict[str, Any]:
        """The problem document. `instance` is the path that was asked for."""
        return _document(self.status, self.code, str(self), request_id, instance, self.extra)

    def response(self, request_id: str, instance: str, *, close: bool = False) -> Response:
        """The response to send. `instance` is the path that was asked for."""
        return problem_response(
            self.status,
            self.code,
            str(self),
            request_id,
            instance,
            headers=self.headers,
            extra=self.extra,
            close=close,
        )


def problem_response(
    status: int,
    code: str,
    detail: str,
    request_id: str,
    instance: str,
    *,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    close: bool = False,
) -> Response:
    """A problem document as a response; `close` ends the connection after it."""
    document = _document(status, code, detail, request_id, instance, extra or {})
    sent = [
        *(headers or {}).items(),
        ("Content-Type", CONTENT_TYPE),
        ("Cache-Control", "no-store"),
        ("Server", SERVER),
        (REQUEST_ID_HEADER, request_id),
    ]
    response = Response(status, sent, orjson.dumps(document))
    response.close = close
    return response


def _document(
    status: int, code: str, detail: str, request_id: str, instance: str, extra: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": _title(status),
        "status": status,
        "detail": detail,
        "instance": printable(instance),
        "code": code,
        "requestId": request_id,
        **extra,
    }


def printable(text: str) -> str:
    """`text` with what was not UTF-8 (lone surrogates here) replaced, so that JSON can hold it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
