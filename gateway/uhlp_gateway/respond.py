"""Turns a runner's answer into the response for a client or a caller inside (specification 2.4 and 3.4.6).

What a handler returned is untrusted: it may set headers, but not frame the message, smuggle a second one, or
speak for the connection. What went wrong inside a sandbox is told by its code only.
"""

import math
import re
import time
from base64 import b64decode
from functools import lru_cache
from typing import Any

import orjson

from uhlp_core.unix_http import Reply
from uhlp_gateway.http_wire import Response
from uhlp_gateway.problems import REQUEST_ID_HEADER, SERVER, Problem
from uhlp_gateway.schemas import SchemaCheck

JSON = "application/json"

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that speak about one connection (RFC 9110, 7.6.1); they are never passed on."""

_OURS = HOP_BY_HOP | {"content-length", "server", "date", REQUEST_ID_HEADER.lower()}
_NO_BODY = frozenset({204, 205, 304})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")

_HANDLER_ERRORS = {
    "HANDLER_TIMEOUT": (504, "the handler did not answer in time"),
    "HANDLER_EXCEPTION": (500, "the handler raised an exception"),
    "HANDLER_CRASHED": (500, "the handler's process ended"),
    "OUT_OF_MEMORY": (500, "the handler needed more memory than its pool allows"),
    "PROCESS_LIMIT_EXCEEDED": (500, "the handler started more processes than its pool allows"),
    "OUTPUT_LIMIT_EXCEEDED": (500, "the handler printed or returned more than its pool allows"),
    "RESULT_NOT_SERIALISABLE": (500, "the handler's result is not JSON"),
    "RESULT_FORMAT_MISMATCH": (500, "the handler's result is not of the expected format"),
    "HANDLER_NOT_FOUND": (500, "the handler's script or function is missing in this revision"),
    "HANDLER_IMPORT_FAILED": (500, "the handler's script cannot be imported"),
    "CANCELLED": (503, "the request was cancelled"),
    "PROMPT_FAILED": (500, "the prompt's template failed"),
    "PROMPT_TOO_LARGE": (413, "the request makes a prompt that is too large"),
    "LLM_NOT_CONFIGURED": (503, "no LLM is configured for this app"),
    "LLM_RATE_LIMITED": (429, "the LLM takes no more requests for now"),
    "LLM_OVER_BUDGET": (429, "the budget for the LLM is used up for today"),
    "LLM_REFUSED": (422, "the LLM refused to answer"),
    "LLM_INVALID_OUTPUT": (502, "the LLM's answer does not have the form that the prompt asks for"),
    "LLM_TIMEOUT": (504, "the LLM did not answer in time"),
    "LLM_UNAVAILABLE": (503, "the LLM cannot be reached"),
    "LLM_BAD_REQUEST": (500, "the LLM's provider does not take this request"),
    "POLICY_DENIED": (403, "a policy refuses what would go to the LLM, or its answer"),
    "SECRET_MISSING": (503, "the LLM's key is not set"),
    "SECRETS_UNAVAILABLE": (503, "the LLM's key cannot be read at the moment"),
    "UNAVAILABLE": (503, "a part of the platform is away at the moment"),
}
DAY_SECONDS = 86400
_RETRY_AFTER = {
    "LLM_RATE_LIMITED": 10,
    "LLM_OVER_BUDGET": DAY_SECONDS,
    "LLM_UNAVAILABLE": 5,
    "SECRETS_UNAVAILABLE": 5,
    "UNAVAILABLE": 5,
}
"""Seconds that a client is told to wait where nobody knows better. A budget begins anew at midnight UTC."""

SCRIPTED = ("X-LLM-Scripted", "true")
"""Says of an answer that no LLM wrote it: it comes from the rules of the app's scripted provider."""

_SEE_LOG = "; the app's log says more under this requestId"


class BadResult(Exception):
    """The result cannot be sent; the text is for the app's log."""

    code = "BAD_RESULT"

    def problem(self) -> Problem:
        """What the client is told instead."""
        return Problem(
            502, self.code, "the handler returned something that cannot be sent; the app's log says more"
        )


async def respond(reply: Reply, schema: SchemaCheck | None, request_id: str) -> Response:
    """The response for a runner's answer.

    Raises Problem, and BadResult with what is wrong with the result.
    """
    kind, data, metrics = _result(reply)
    if kind == "httpResponse":
        response = await _http_response(data, schema, request_id)
    else:
        if schema is not None:
            await _check(schema, data)
        headers = [("Content-Type", JSON), ("Server", SERVER), (REQUEST_ID_HEADER, request_id)]
        response = Response(200, headers, orjson.dumps(data))
    if _is_scripted(metrics):
        response.headers.append(SCRIPTED)
    return response


async def respond_inside(reply: Reply, schema: SchemaCheck | None, request_id: str) -> Response:
    """The response for a call from inside the platform: the result as it is, checked all the same.

    Raises Problem, and BadResult with what is wrong with the result.
    """
    kind, data, metrics = _result(reply)
    if kind == "httpResponse":
        await _http_response(data, schema, request_id)
    elif schema is not None:
        await _check(schema, data)
    headers = [("Content-Type", JSON), (REQUEST_ID_HEADER, request_id)]
    told = {"scripted": True} if _is_scripted(metrics) else {}
    return Response(200, headers, orjson.dumps({"resultType": kind, "data": data, **told}))


async def streamed_result(reply: Reply, schema: SchemaCheck | None) -> dict[str, Any]:
    """What a client is told at the end of a stream: the result, and what the runner says of the LLM.

    Raises Problem, and BadResult with what is wrong with the result.
    """
    kind, data, metrics = _result(reply)
    if kind == "httpResponse":
        raise BadResult("a stream cannot end in an httpResponse")
    if schema is not None:
        await _check(schema, data)
    return {"result": data, "llm": metrics}


def _result(reply: Reply) -> tuple[str, Any, dict[str, Any] | None]:
    """The resultType and data of a runner's answer, and what it says of the LLM that was asked.

    Raises Problem or BadResult.
    """
    try:
        result = orjson.loads(reply.body)
    except ValueError:
        raise BadResult("the sandbox's answer is not JSON") from None
    if not isinstance(result, dict):
        raise BadResult("the sandbox's answer is not a JSON object")
    if reply.status != 200:
        raise handler_problem(result)
    kind, data = result.get("resultType"), result.get("data")
    if kind == "error":
        raise _application_error(data)
    if kind not in ("generic", "httpResponse", "workflowStep"):
        raise BadResult(f"unknown resultType {kind!r}")
    metrics = result.get("metrics")
    llm = metrics.get("llm") if isinstance(metrics, dict) else None
    return kind, data, llm if isinstance(llm, dict) else None


def _is_scripted(metrics: dict[str, Any] | None) -> bool:
    return metrics is not None and metrics.get("scripted") is True


def handler_problem(failure: dict[str, Any]) -> Problem:
    """The problem for what a runner answers of a failed request; an unknown code tells nothing."""
    code = failure.get("error")
    if not isinstance(code, str) or code not in _HANDLER_ERRORS:
        return Problem(500, "SANDBOX_ERROR", f"the sandbox failed{_SEE_LOG}")
    status, detail = _HANDLER_ERRORS[code]
    data = failure.get("data")
    details = data.get("details") if isinstance(data, dict) else None
    if not isinstance(details, dict):
        details = {}
    headers, extra = {}, {}
    if code in _RETRY_AFTER:
        headers["Retry-After"] = str(_retry_after(code, details.get("retryAfter")))
    if details.get("scripted") is True:
        headers.update([SCRIPTED])
        extra["scripted"] = True
    return Problem(status, code, detail + _SEE_LOG, headers=headers, extra=extra)


def _retry_after(code: str, told: Any) -> int:
    """Seconds to wait before asking again: what the LLM's provider told, or what the code means."""
    if isinstance(told, int | float) and 0 <= told <= DAY_SECONDS:
        return max(1, math.ceil(told))
    if code == "LLM_OVER_BUDGET":
        return DAY_SECONDS - int(time.time()) % DAY_SECONDS
    return _RETRY_AFTER[code]


def _application_error(data: Any) -> Problem:
    """An AppError: the application's own, so its words are passed on."""
    if not isinstance(data, dict):
        raise BadResult("the data of an error is not an object")
    status = data.get("statusCode")
    if not isinstance(status, int) or not 400 <= status <= 599:
        status = 400
    details = data.get("details")
    return Problem(
        status,
        str(data.get("code") or "APPLICATION_ERROR"),
        str(data.get("message") or ""),
        extra=None if details is None else {"details": details},
    )


async def _http_response(data: Any, schema: SchemaCheck | None, request_id: str) -> Response:
    if not isinstance(data, dict):
        raise BadResult("the data of an httpResponse is not an object")
    status = data.get("statusCode")
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise BadResult(f"statusCode must be a number from 200 to 599, not {status!r}")
    headers: list[tuple[str, str]] = []
    given = data.get("headers")
    if given is not None:
        if not isinstance(given, dict):
            raise BadResult("headers must be an object of name: text, or name: list of texts")
        for name, value in given.items():
            _add_header(headers, name, value)
    body = _body(data, headers)
    if schema is not None and status < 400:
        await _check_body(schema, body)
    if status in _NO_BODY:
        body = b""
    headers += (("Server", SERVER), (REQUEST_ID_HEADER, request_id))
    return Response(status, headers, body)


def _add_header(headers: list[tuple[str, str]], name: str, value: Any) -> None:
    if _is_ours(name):
        return
    for one in value if isinstance(value, list) else (value,):
        if isinstance(one, int) and not isinstance(one, bool):
            one = str(one)
        if not isinstance(one, str):
            raise BadResult(f"the header {name!r} must be a text or a list of texts")
        if "\r" in one or "\n" in one or "\0" in one:
            raise BadResult(f"the header {name!r} holds a line end")
        headers.append((name, one))


@lru_cache(maxsize=1024)
def _is_ours(name: str) -> bool:
    """Whether a header is not the application's to set; raises BadResult if it is no header's name."""
    if not _TOKEN.fullmatch(name):
        raise BadResult(f"{name[:80]!r} cannot name a header")
    return name.lower() in _OURS


def _body(data: dict[str, Any], headers: list[tuple[str, str]]) -> bytes:
    """The body's bytes; gives it a Content-Type if the handler did not."""
    body = data.get("body")
    if body is None:
        return b""
    encoding = data.get("bodyEncoding", "utf8")
    if not isinstance(body, str):
        _default_type(headers, JSON)
        return orjson.dumps(body)
    if encoding == "utf8":
        _default_type(headers, "text/plain; charset=utf-8")
        return body.encode()
    if encoding == "base64":
        _default_type(headers, "application/octet-stream")
        try:
            return b64decode(body, validate=True)
        except ValueError:
            raise BadResult("the body is not base64") from None
    raise BadResult(f"bodyEncoding must be utf8 or base64, not {encoding!r}")


def _default_type(headers: list[tuple[str, str]], kind: str) -> None:
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", kind))


async def _check_body(schema: SchemaCheck, body: bytes) -> None:
    try:
        document = orjson.loads(body)
    except ValueError:
        raise BadResult("the body is not JSON, as the responseSchema wants it") from None
    await _check(schema, document)


async def _check(schema: SchemaCheck, document: Any) -> None:
    if violations := await schema.violations(document):
        told = "; ".join(f"{one['pointer'] or '/'}: {one['detail']}" for one in violations)
        raise ResponseSchemaViolation(f"the result breaks the responseSchema: {told}")


class ResponseSchemaViolation(BadResult):
    """The handler kept the protocol, but not the component's responseSchema."""

    code = "RESPONSE_SCHEMA_VIOLATION"
