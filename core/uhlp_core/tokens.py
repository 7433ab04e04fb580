"""Short-lived signed tokens that say who calls: what a sandbox, or a person's script, shows the MCP server.

HS256 JSON Web Tokens under one key per installation. Who may read `<home>/secrets` can sign; a token is worth
nothing to any other server, and is never sent on to one.
"""

import contextlib
import os
import secrets
import time
from dataclasses import dataclass
from typing import Final, Self

import jwt

from uhlp_core.errors import UhlpError
from uhlp_core.home import Home

MCP_AUDIENCE: Final = "mcp"

REQUEST_TOKEN_SECONDS: Final = 3600
"""Of a token that goes with a request. One is handed out until half of this is over: what is left is then
still longer than the longest request (900 s)."""

MAX_REMEMBERED: Final = 4096
"""Tokens kept by a `TokenCache`: instances times components of a busy machine, a few MB."""

_ALGORITHM = "HS256"
_ISSUER = "uhlp"
_REQUIRED = ("iss", "aud", "sub", "exp", "app", "scopes", "depth")


class Unauthenticated(UhlpError):
    """The credential is missing, wrong, expired or meant for somebody else; the text says no more."""

    code = "UNAUTHENTICATED"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says of its bearer."""

    app: str
    deployment: str
    pool: str = ""
    instance: str = ""
    """The only sandbox that the token counts in; empty for a client outside."""
    component: str = ""
    user: str = ""
    scopes: frozenset[str] = frozenset({"*"})
    """Tools that the bearer may use: names, or prefixes that end in `*`."""
    depth: int = 0
    """Calls of components by components that led here."""
    safe_names: bool = False
    """Whether the bearer is shown tools under names without dots."""
    audience: str = MCP_AUDIENCE


class TokenKey:
    """The installation's key: signs and verifies."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of(cls, home: Home) -> Self:
        """The key of a home, made if there is none yet; several processes may ask at once. Raises OSError."""
        path = home.secrets / "token-key"
        try:
            return cls(path.read_bytes())
        except FileNotFoundError:
            pass
        # Written in full under another name: who finds the file finds a whole key, and the first one wins.
        temporary = path.with_name(f"token-key.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink()
        return cls(path.read_bytes())

    def sign(self, claims: Claims, seconds: float) -> str:
        """A token that is good for `seconds` from now."""
        payload = {
            "iss": _ISSUER,
            "aud": claims.audience,
            "sub": claims.deployment,
            "exp": time.time() + seconds,
            "app": claims.app,
            "pool": claims.pool,
            "instance": claims.instance,
            "component": claims.component,
            "user": claims.user,
            "scopes": sorted(claims.scopes),
            "depth": claims.depth,
            "safeNames": claims.safe_names,
        }
        return jwt.encode(payload, self._key, _ALGORITHM)

    def verify(self, token: str, audience: str) -> Claims:
        """What the token says. Raises Unauthenticated unless it is ours, in time, and for `audience`."""
        return self.verify_until(token, audience)[0]

    def verify_until(self, token: str, audience: str) -> tuple[Claims, float]:
        """As `verify`, with the time (seconds since the epoch) until which the token counts."""
        try:
            found = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                audience=audience,
                issuer=_ISSUER,
                options={"require": list(_REQUIRED)},
            )
        except jwt.InvalidTokenError:
            raise Unauthenticated("the token is not valid here, or not any more") from None
        # The signature proves that `sign` wrote the rest, so its shape needs no check.
        claims = Claims(
            app=found["app"],
            deployment=found["sub"],
            pool=found["pool"],
            instance=found["instance"],
            component=found["component"],
            user=found["user"],
            scopes=frozenset(found["scopes"]),
            depth=found["depth"],
            safe_names=found.get("safeNames", False),
            audience=audience,
        )
        return claims, float(found["exp"])


class TokenCache:
    """Hands out one token per bearer until half its life is over, so that requests sign nothing."""

    def __init__(self, key: TokenKey) -> None:
        self._key = key
        self._made: dict[tuple[str, str, str, str, str, int], tuple[str, float]] = {}

    def token(
        self, deployment: str, pool: str, instance: str, component: str, user: str = "", depth: int = 0
    ) -> str:
        """A token for a handler in a sandbox, good for at least half of REQUEST_TOKEN_SECONDS."""
        bearer = (deployment, pool, instance, component, user, depth)
        known = self._made.get(bearer)
        now = time.time()
        if known is not None and now < known[1]:
            return known[0]
        if len(self._made) >= MAX_REMEMBERED:
            self._made.clear()  # Most are of instances that are gone; the others are cheap to make again.
        app = deployment.partition("@")[0]
        claims = Claims(app, deployment, pool, instance, component, user, depth=depth)
        token = self._key.sign(claims, REQUEST_TOKEN_SECONDS)
        self._made[bearer] = (token, now + REQUEST_TOKEN_SECONDS / 2)
        return token
