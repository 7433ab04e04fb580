"""Decides who a client from outside is, which app it speaks for, and which tools it may use.

Whatever fails before somebody is known looks the same: it tells nobody which apps there are.
"""

import hmac
from collections.abc import Iterable

from uhlp_core.errors import InvalidInput, NotFound, UhlpError, Unavailable
from uhlp_core.ids import Deployment
from uhlp_core.settings import Settings
from uhlp_core.tokens import Unauthenticated
from uhlp_mcp.bearers import Bearers
from uhlp_mcp.served import Served
from uhlp_mcp.tools import EVERYTHING, Caller
from uhlp_state.api_keys import ApiKeys

PERMISSION = "mcp"
"""An API key's permission: alone it opens the app's own tools; `mcp:<tool>`, `mcp:<prefix>*` name others."""

SAFE_NAMES = "mcp-safe-names"
"""An API key's permission beside it: tools are listed under names without dots."""

OWN_TOOLS = "app.*"


class Forbidden(UhlpError):
    """The client is known, and may not do this."""

    code = "FORBIDDEN"


class Access:
    """Knows the operator, the tokens' bearers, and the API keys of every app."""

    def __init__(self, settings: Settings, served: Served, bearers: Bearers) -> None:
        self._operator = settings.operator_token
        self._served = served
        self._bearers = bearers
        self._api_keys = ApiKeys()

    async def caller(self, target: str, credential: str) -> Caller:
        """Who sends `credential` to `/mcp/<target>`, or to `/mcp` if `target` is empty.

        Raises:
            Unauthenticated: nobody that is known.
            Forbidden: an API key without permission for MCP, or the operator without an app.
            NotFound: a known client, and no such deployment, or one of another app.
            TooManyKeys: too many unknown keys at once.
        """
        if not credential:
            raise Unauthenticated("send an API key of the app, or a token, as Authorization: Bearer")
        if self._operator and hmac.compare_digest(credential.encode(), self._operator.encode()):
            if not target:
                raise Forbidden("the operator token opens one app at a time: use /mcp/<app>")
            return await self._served_caller(target)
        if _is_token(credential):
            return self._bearer(target, credential)
        return await self._key_holder(target, credential)

    def _bearer(self, target: str, token: str) -> Caller:
        caller = self._bearers.caller(token)
        if caller.instance:
            raise Unauthenticated("a sandbox's token counts at the sandbox's own socket only")
        if target not in ("", caller.deployment):
            raise _no_app()
        return caller

    async def _key_holder(self, target: str, key: str) -> Caller:
        if not target:
            raise Unauthenticated("an API key opens its app only: use /mcp/<app>")
        try:
            # Production's configuration decides for previews too: a branch cannot let anybody in by itself.
            app = Deployment.parse(target).app
            defined = (await self._served.snapshot(app)).security.api_keys
        except (InvalidInput, Unavailable):
            app, defined = target, ()
        found = await self._api_keys.find(app, defined, key)
        if found is None:
            raise Unauthenticated("the key is not valid here, or not any more")
        scopes = scopes_of(found.permissions)
        if not scopes:
            raise Forbidden("this key may not use MCP; the permission `mcp` in security_config.yaml lets it")
        safe_names = SAFE_NAMES in found.permissions
        return await self._served_caller(target, scopes, user=found.holder, safe_names=safe_names)

    async def _served_caller(
        self,
        target: str,
        scopes: frozenset[str] = EVERYTHING,
        *,
        user: str = "",
        safe_names: bool = False,
    ) -> Caller:
        try:
            deployment = Deployment.parse(target)
            await self._served.snapshot(deployment.id)
        except (InvalidInput, Unavailable):
            raise _no_app() from None
        return Caller(deployment.app, deployment.id, user=user, scopes=scopes, safe_names=safe_names)


def _is_token(credential: str) -> bool:
    """Whether it is a signed token: three parts, the first of them a JSON object. Our keys have no dots."""
    return credential.startswith("eyJ") and credential.count(".") == 2


def scopes_of(permissions: Iterable[str]) -> frozenset[str]:
    """The tools that an API key's permissions open, as `Caller.scopes` has them; none unless they say so."""
    found = set()
    for permission in permissions:
        name, colon, tools = permission.partition(":")
        if name == PERMISSION:
            found.add(tools if colon else OWN_TOOLS)
    return frozenset(found)


def _no_app() -> NotFound:
    return NotFound("no app is served under this name")
