"""Reads a request's body within the app's limit."""

import asyncio

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_exceptions import HTTPException

from uhlp_gateway.problems import Problem

READ_TIMEOUT_SECONDS = 60.0
"""For the next piece of a body to arrive; a client that sends nothing for so long has gone."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """The whole body.

    Raises Problem: 413 beyond `limit` bytes, 400 if it is not framed as HTTP says, 408 if it stops arriving,
    417 for an expectation other than `100-continue`.
    """
    declared = request.content_length
    if declared is not None and declared > limit:
        raise _too_large(limit)
    expect = request.headers.get("Expect")
    if expect is not None:
        if expect.lower() != "100-continue":
            raise Problem(417, "EXPECTATION_FAILED", "the only expectation that is met is 100-continue")
        if request.transport is not None:
            request.transport.write(CONTINUE)
    content = request.content
    chunks: list[bytes] = []
    size = 0
    try:
        while not content.at_eof():
            if content.is_eof():
                piece = content.read_nowait()
            else:
                async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                    piece = await content.readany()
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            chunks.append(piece)
    except TimeoutError:
        raise Problem(408, "REQUEST_TIMEOUT", "the body stopped arriving") from None
    except (HttpProcessingError, HTTPException, web.RequestPayloadError):
        raise Problem(400, "BAD_REQUEST", "the body is not framed as HTTP/1.1 says") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> Problem:
    return Problem(413, "BODY_TOO_LARGE", f"the body is larger than the {limit} bytes that this app takes")
