"""Parse and check the body of `POST /execute`, once, where it enters the runner (specification 2.4)."""

from collections.abc import Callable
from typing import Any

loads: Callable[[bytes | str], Any]
try:
    from orjson import loads
except ImportError:
    import json

    def _refuse_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    def loads(text: bytes | str) -> Any:
        """Parse JSON as strictly as orjson does."""
        return json.loads(text, parse_constant=_refuse_constant)


SOURCES = frozenset(("http", "trigger", "callback", "queue", "cron", "internal"))
REQUEST_ID_LIMIT = 128
"""Characters of a request id. It is echoed in a header, written in logs and kept in shared memory."""


class Malformed(ValueError):
    """The body is not what specification 2.4 says: HTTP 400 with this text."""


PROMPT = "prompt_template"
"""The key of `taskDetails` that makes a request one of an LLM component."""


def parse(body: bytes, header_id: str | None = None, *, prompts: bool = False) -> dict[str, Any]:
    """The request in `body`, with `requestData.httpDetails.json` filled in where the client sent JSON.

    `header_id` is the X-Request-ID header. With `prompts` a request may name a prompt instead of a function.
    Raises Malformed.
    """
    try:
        request = loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    try:
        request_id = request["requestId"]
        data = request["requestData"]
        context = request["context"]
        task = context["taskDetails"]
        is_sound = (
            type(data) is dict
            and data["source"] in SOURCES
            and type(context["tree"]) is str
            and (
                (prompts and type(task.get(PROMPT)) is str)
                or (type(task["script"]) is str and type(task["function"]) is str)
            )
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise Malformed(f"missing or of the wrong type: {error}; see specification 2.4") from None
    if not is_sound:
        raise Malformed("requestData needs a source; context needs tree, taskDetails.script and .function")
    if type(request_id) is not str or not request_id.isprintable() or not request_id.isascii():
        raise Malformed("requestId must be printable ASCII text")
    if '"' in request_id or "\\" in request_id:
        raise Malformed("requestId must not contain quotes or backslashes")
    if not 0 < len(request_id) <= REQUEST_ID_LIMIT:
        raise Malformed(f"requestId must have 1 to {REQUEST_ID_LIMIT} characters")
    if header_id is not None and header_id != request_id:
        raise Malformed("X-Request-ID and requestId differ")
    timeout = context.get("timeoutMs")
    if timeout is not None and (type(timeout) not in (int, float) or not timeout > 0):
        raise Malformed("context.timeoutMs must be a number above 0, in milliseconds")
    if data["source"] == "internal":
        details = data.get("internalDetails")
        if type(details) is not dict or "input" not in details:
            raise Malformed("requestData.internalDetails needs an input")
    http = data.get("httpDetails")
    if http is not None:
        if type(http) is not dict:
            raise Malformed("requestData.httpDetails must be an object")
        _fill_json(http)
    return request  # type: ignore[no-any-return]


def _fill_json(http: dict[str, Any]) -> None:
    """Put the parsed body under `json` where its content type says JSON and it is."""
    text = http.get("body")
    headers = http.get("headers")
    if not text or type(text) is not str or type(headers) is not dict or http.get("bodyEncoding") == "base64":
        return
    for name, value in headers.items():
        if len(name) == 12 and name.lower() == "content-type" and type(value) is str:
            kind = value.partition(";")[0].strip().lower()
            if kind == "application/json" or kind.endswith("+json"):
                try:
                    http["json"] = loads(text)
                except (ValueError, RecursionError):
                    return  # The handler sees the body as it came, and decides.
            return
