"""The body of a Git client's request as a stream of plain bytes: inflated if need be, bounded in any case."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from aiohttp import web

CHUNK_BYTES = 64 * 1024
"""Read and inflated at a time: what one request holds in memory."""
IDLE_SECONDS = 60.0
"""A client that neither sends nor reads for this long has gone."""
_GZIP = zlib.MAX_WBITS | 16


class BodyError(Exception):
    """A body that is not taken."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def plain_body(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    """The request's body, inflated.

    Raises:
        BodyError: more than `limit` bytes, not what its headers say, or not coming.
    """
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise BodyError(415, f"Content-Encoding {encoding[:40]!r} is not supported; send gzip or none")
    inflater = None if encoding == "identity" else zlib.decompressobj(_GZIP)
    total = 0
    while chunk := await _read(request):
        async for part in _inflated(inflater, chunk):
            total += len(part)
            if total > limit:
                raise BodyError(413, f"the request has more than {limit} bytes (setting max_push_bytes)")
            yield part
    if inflater is not None and not inflater.eof:
        raise BodyError(400, "the gzip body ends early")


async def _read(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            return await request.content.read(CHUNK_BYTES)
    except TimeoutError:
        raise BodyError(408, f"nothing came for {IDLE_SECONDS:.0f} seconds") from None


async def _inflated(inflater: "zlib._Decompress | None", chunk: bytes) -> AsyncIterator[bytes]:
    if inflater is None:
        yield chunk
        return
    try:
        while chunk and not inflater.eof:
            yield inflater.decompress(chunk, CHUNK_BYTES)
            chunk = inflater.unconsumed_tail
    except zlib.error as error:
        raise BodyError(400, f"the body is not gzip: {error}") from None
    if inflater.unused_data:
        raise BodyError(400, "there is more after the end of the gzip body")
