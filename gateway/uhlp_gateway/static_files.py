"""Serves the files under `state/ui/` of the revision in force (GET and HEAD).

Only files that the snapshot lists exist here, whatever lies on the disk: no path of a client's ever becomes
a path of the file system. Contents are kept in memory by blob id, which never means another content.
"""

import asyncio
import mimetypes
import re
from collections import OrderedDict
from urllib.parse import unquote_to_bytes

from aiohttp import web
from multidict import CIMultiDict

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

    async def respond(
        self, table: Table, name: str, request: web.BaseRequest, request_id: str
    ) -> web.Response:
        """The response for a file that `find` found; raises Problem if it cannot be read."""
        file = table.ui[name]
        etag = f'"{file.blob}"'
        headers = CIMultiDict(
            {
                "Content-Type": content_type(name),
                "ETag": etag,
                "Cache-Control": CACHE_CONTROL,
                "X-Content-Type-Options": "nosniff",
                "Accept-Ranges": "bytes",
                "Server": SERVER,
                REQUEST_ID_HEADER: request_id,
            }
        )
        known = request.headers.get("If-None-Match")
        if known is not None and _names(known, etag):
            del headers["Content-Type"]
            return web.Response(status=304, headers=headers)
        content = await self._content(table, name, file.blob)
        status = 200
        wanted = request.headers.get("Range")
        if wanted is not None and request.method == "GET" and request.headers.get("If-Range", etag) == etag:
            span = parse_range(wanted, len(content))
            if span == UNSATISFIABLE:
                headers["Content-Range"] = f"bytes */{len(content)}"
                headers["Content-Type"] = "text/plain; charset=utf-8"
                return web.Response(status=416, body=b"", headers=headers)
            if span is not None:
                first, last = span
                headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                content, status = content[first : last + 1], 206
        return web.Response(status=status, body=content, headers=headers)

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
