"""Serves the files under `state/ui/` of the revision in force (GET and HEAD).

Only files that the snapshot lists exist here, whatever lies on the disk: no path of a client's ever becomes
a path of the file system. Contents are kept in memory by blob id, which never means another content.
"""

import asyncio
import mimetypes
import re
from collections import OrderedDict
from urllib.parse import unquote_to_bytes

from uhlp_gateway.http_server import Request
from uhlp_gateway.http_wire import Response
from uhlp_gateway.problems import REQUEST_ID_HEADER, SERVER, Problem
from uhlp_gateway.table import Table

CACHE_BYTES = 64 * 1024 * 1024
"""Contents kept in memory by one gateway process."""

MAX_CACHED_FILE = 4 * 1024 * 1024
"""Larger files are read each time, so that one of them does not push all others out."""

INDEX = "index.html"
_DIGITS = re.compile(r"[0-9]{1,18}")
CACHE_CONTROL = "public, max-age=0, must-revalidate"


class StaticFiles:
    """Finds and answers files; the cache is bounded in bytes, the least recently used goes first."""

    def __init__(self) -> None:
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0

    @staticmethod
    def find(table: Table, path: str) -> str | None:
        """The file (a key of the snapshot's `ui`) that a raw path without query means, or None."""
        try:
            name = unquote_to_bytes(path).decode().removeprefix("/")
        except UnicodeDecodeError:
            return None
        if not name or name.endswith("/"):
            name += INDEX
        return name if name in table.ui else None

    async def respond(self, table: Table, name: str, request: Request, request_id: str) -> Response:
        """The response for a file that `find` found; raises Problem if it cannot be read."""
        file = table.ui[name]
        etag = f'"{file.blob}"'
        headers = [
            ("ETag", etag),
            ("Cache-Control", CACHE_CONTROL),
            ("X-Content-Type-Options", "nosniff"),
            ("Accept-Ranges", "bytes"),
            ("Server", SERVER),
            (REQUEST_ID_HEADER, request_id),
        ]
        known = request.header(b"if-none-match")
        if known is not None and _names(known, etag):
            return Response(304, headers)
        content = await self._content(table, name, file.blob)
        headers.append(("Content-Type", content_type(name)))
        wanted = request.header(b"range")
        if wanted is None or request.method != "GET" or request.header(b"if-range") not in (None, etag):
            return Response(200, headers, content)
        span = parse_range(wanted, len(content))
        if span is None:
            return Response(200, headers, content)
        if span == UNSATISFIABLE:
            headers[-1] = ("Content-Range", f"bytes */{len(content)}")
            return Response(416, headers)
        first, last = span
        headers.append(("Content-Range", f"bytes {first}-{last}/{len(content)}"))
        return Response(206, headers, content[first : last + 1])

    async def _content(self, table: Table, name: str, blob: str) -> bytes:
        content = self._cache.get(blob)
        if content is not None:
            self._cache.move_to_end(blob)
            return content
        try:
            content = await asyncio.to_thread((table.ui_root / name).read_bytes)
        except OSError:
            raise Problem(
                503, "FILE_UNAVAILABLE", "the file is not there at the moment", headers={"Retry-After": "1"}
            ) from None
        if len(content) <= MAX_CACHED_FILE and blob not in self._cache:
            self._cache[blob] = content
            self._cached_bytes += len(content)
            while self._cached_bytes > CACHE_BYTES:
                self._cached_bytes -= len(self._cache.popitem(last=False)[1])
        return content


UNSATISFIABLE = (-1, -1)


def content_type(name: str) -> str:
    """By the file's extension; texts are UTF-8."""
    guessed, encoding = mimetypes.guess_type(name)
    if guessed is None or encoding is not None:
        return "application/octet-stream"
    textual = guessed.startswith("text/") or guessed in _TEXTUAL
    return f"{guessed}; charset=utf-8" if textual else guessed


_TEXTUAL = frozenset(
    {"application/javascript", "application/json", "application/manifest+json", "image/svg+xml"}
)


def _names(known: str, etag: str) -> bool:
    """Whether an If-None-Match header names this tag (weak comparison, RFC 9110, 13.1.2)."""
    return known.strip() == "*" or any(
        candidate.strip().removeprefix("W/") == etag for candidate in known.split(",")
    )


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The single byte range that a Range header asks for, as (first, last).

    None means: send the whole (no range in bytes, several, or nonsense); UNSATISFIABLE that
    no byte lies in it.
    """
    unit, equals, spec = header.partition("=")
    first, dash, last = spec.strip().partition("-")
    if unit.strip().lower() != "bytes" or not equals or not dash or "," in spec:
        return None
    if not all(part == "" or _DIGITS.fullmatch(part) for part in (first, last)):
        return None
    if first == "":
        if last == "":
            return None
        length = min(int(last), size)
        return (size - length, size - 1) if length else UNSATISFIABLE
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    return (start, end) if start < size else UNSATISFIABLE
