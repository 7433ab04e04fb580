"""Builds the `requestData` of an `/execute` call from an HTTP request (specification 2.4)."""

from base64 import b64encode
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

import orjson

from uhlp_gateway.problems import Problem, printable
from uhlp_gateway.respond import HOP_BY_HOP

MAX_QUERY_FIELDS = 1000
"""Parameters of one query; a person's form has dozens."""

_DROPPED = HOP_BY_HOP | {"expect", "x-request-id", "x-trace-id"}
"""Headers that end here: they speak about this hop, or are told in a field of their own."""


def request_data(
    method: str,
    path: str,
    route: str,
    parameters: dict[str, str],
    raw_headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
) -> bytes:
    """The JSON bytes. `path` is the raw path with its query. Raises Problem."""
    details: dict[str, Any] = {
        "method": method,
        "path": path,
        "routePattern": route,
        "pathParameters": parameters,
        "queryParameters": _query(path),
        "headers": _headers(raw_headers),
    }
    try:
        details["body"], details["bodyEncoding"] = body.decode(), "utf8"
    except UnicodeDecodeError:
        details["body"], details["bodyEncoding"] = b64encode(body).decode(), "base64"
    try:
        encoded = orjson.dumps(details)
    except TypeError:  # bytes beyond UTF-8 in the path
        details["path"] = printable(path)
        encoded = orjson.dumps(details)
    return b'{"source":"http","httpDetails":' + encoded + b"}"


def _query(path: str) -> dict[str, str | list[str]]:
    _, mark, query = path.partition("?")
    found: dict[str, str | list[str]] = {}
    if not mark:
        return found
    try:
        pairs = parse_qsl(
            printable(query), keep_blank_values=True, errors="replace", max_num_fields=MAX_QUERY_FIELDS
        )
    except ValueError:
        raise Problem(400, "BAD_QUERY", f"the query has more than {MAX_QUERY_FIELDS} parameters") from None
    for name, value in pairs:
        before = found.get(name)
        if before is None:
            found[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            found[name] = [before, value]
    return found


def _headers(raw_headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Names as they were sent; a repeated one is joined under its first spelling."""
    found: dict[str, str] = {}
    spelling: dict[str, str] = {}
    dropped: frozenset[str] | set[str] = _DROPPED
    for raw_name, raw_value in raw_headers:
        name = raw_name.decode("latin-1")
        lower = name.lower()
        value = raw_value.decode("utf-8", "replace")
        if lower in dropped:
            if lower == "connection":
                named = {token.strip().lower() for token in value.split(",")}
                dropped = dropped | named
                for token in named & spelling.keys():
                    found.pop(spelling.pop(token))
            continue
        first = spelling.setdefault(lower, name)
        if first in found:
            found[first] += ("; " if lower == "cookie" else ", ") + value
        else:
            found[first] = value
    return found
