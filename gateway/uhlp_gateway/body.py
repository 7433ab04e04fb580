"""Reads a request's body within the app's limit, and says what is wrong with it as a problem."""

from uhlp_gateway.http_server import BodyBroken, BodyStalled, BodyTooLarge, Request
from uhlp_gateway.problems import Problem


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises Problem: 413 beyond `limit` bytes, 400 if it is not framed as HTTP says, 408 if it stops arriving,
    417 for an expectation other than `100-continue`.
    """
    expectation = request.header(b"expect")
    if expectation is not None and expectation.lower() != "100-continue":
        raise Problem(417, "EXPECTATION_FAILED", "the only expectation that is met is 100-continue")
    try:
        return await request.read_body(limit)
    except BodyTooLarge:
        raise Problem(
            413, "BODY_TOO_LARGE", f"the body is larger than the {limit} bytes that this app takes"
        ) from None
    except BodyStalled:
        raise Problem(408, "REQUEST_TIMEOUT", "the body stopped arriving") from None
    except BodyBroken:
        raise Problem(400, "BAD_REQUEST", "the body is not framed as HTTP/1.1 says") from None
