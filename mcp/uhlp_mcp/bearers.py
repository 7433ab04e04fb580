"""Signed tokens at the doors: who their bearer is. Each is verified once and remembered until it expires."""

import time

from aiohttp import web

from uhlp_core import bearer
from uhlp_core.tokens import MCP_AUDIENCE, TokenKey
from uhlp_mcp.tools import Caller

MAX_REMEMBERED = 4096
"""Tokens remembered: instances times components of a busy machine, a few MB."""


class Bearers:
    """Verifies tokens under the installation's key."""

    def __init__(self, key: TokenKey) -> None:
        self._key = key
        self._known: dict[str, tuple[Caller, float]] = {}

    def caller(self, token: str) -> Caller:
        """Who the token says is calling. Raises Unauthenticated."""
        known = self._known.get(token)
        if known is not None and time.time() < known[1]:
            return known[0]
        self._known.pop(token, None)
        claims, until = self._key.verify_until(token, MCP_AUDIENCE)
        caller = Caller(
            claims.app,
            claims.deployment,
            claims.instance,
            claims.pool,
            claims.component,
            user=claims.user,
            scopes=claims.scopes,
            depth=claims.depth,
            safe_names=claims.safe_names,
        )
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[token] = (caller, until)
        return caller


def credential(request: web.BaseRequest) -> str:
    """What the client sent as `Authorization: Bearer` or as `X-API-Key`; empty if nothing, or no text."""
    return bearer.shown(request.headers.get("Authorization"), request.headers.get("X-API-Key"))
