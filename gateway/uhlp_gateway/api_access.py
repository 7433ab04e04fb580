"""Lets requests in by API key where a route asks for a permission (specification 10.3).

Production's keys count for previews too: a branch cannot let anybody in by itself.
"""

import time
from collections.abc import Iterable, Mapping

from uhlp_core import bearer
from uhlp_core.guess_limit import GuessLimit
from uhlp_gateway.http_server import Request
from uhlp_gateway.problems import Problem
from uhlp_gateway.table import Table
from uhlp_state.api_keys import ApiKeys, TooManyKeys

_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})


class ApiAccess:
    """Knows the keys of every app."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        """`tables` are those in force, by deployment."""
        self._tables = tables
        self._keys = ApiKeys()
        self._limit = GuessLimit()

    async def check(self, table: Table, permission: str, request: Request) -> str:
        """The user whose key of the app the request shows. Raises Problem unless it has the permission."""
        came = time.monotonic()
        shown = bearer.shown(request.header(b"authorization"), request.header(b"x-api-key"))
        if not shown:
            raise Problem(
                401,
                "UNAUTHENTICATED",
                "send an API key of the app, as Authorization: Bearer or X-API-Key",
                headers=bearer.challenge(was_shown=False),
            )
        production = self._tables.get(table.app)
        try:
            found = await self._keys.find(
                table.app, production.api_keys if production is not None else (), shown
            )
        except TooManyKeys as error:
            raise _too_many(str(error)) from None
        if found is None:
            if not await self._limit.delay(time.monotonic() - came):
                raise _too_many("too many wrong keys; try again in a second")
            raise Problem(
                401,
                "UNAUTHENTICATED",
                "the key is not valid here, or not any more",
                headers=bearer.challenge(was_shown=True),
            )
        if permission not in found.permissions:
            raise Problem(403, "FORBIDDEN", f"this needs a key with the permission {permission}")
        return found.holder


def without_credentials(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers as a sandbox may see them, where the gateway has looked at the key."""
    return [header for header in headers if header[0].lower() not in _CREDENTIALS]


def _too_many(detail: str) -> Problem:
    return Problem(429, "TOO_MANY_KEYS", detail, headers={"Retry-After": "1"})
