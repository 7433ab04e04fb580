"""API keys, permissions between apps, and roles (specification 3.1.2, SecurityConfig)."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from uhlp_state.model.base import KEY, AppIdText, Flag, Model, Name, UserIdText, refusal
from uhlp_state.problems import Code

MAX_ARGON2_MEMORY_KIB = 256 * 1024
"""Verifying a key takes this much memory in the gateway; a pushed hash must not be able to exhaust it."""
MAX_ARGON2_TIME = 16
MAX_ARGON2_LANES = 16

_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,4}),p=([0-9]{1,4})"
    r"\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,171}"
)


def _check_hash(text: str) -> str:
    # The value is never repeated: what is here by mistake may be the key itself.
    match = _ARGON2.fullmatch(text)
    if match is None:
        remedy = (
            "make a key with `uhlp key`, and write the keyHash that it prints; replace a key that was pushed"
        )
        raise refusal(
            Code.BAD_KEY_HASH, f"{KEY} is not an Argon2 hash ($argon2id$v=19$m=…,t=…,p=…$salt$hash)", remedy
        )
    memory, time, lanes = (int(part) for part in match.groups())
    if not (
        0 < memory <= MAX_ARGON2_MEMORY_KIB and 0 < time <= MAX_ARGON2_TIME and 0 < lanes <= MAX_ARGON2_LANES
    ):
        message = f"{KEY} asks for more than the gateway spends on one key"
        remedy = f"hash with m ≤ {MAX_ARGON2_MEMORY_KIB}, t ≤ {MAX_ARGON2_TIME}, p ≤ {MAX_ARGON2_LANES}"
        raise refusal(Code.BAD_KEY_HASH, message, remedy)
    return text


def _read_moment(value: object) -> datetime:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise refusal(
            Code.BAD_VALUE,
            f"{KEY} must be a moment with its time zone",
            "write it like 2027-01-31T00:00:00Z",
        )
    return moment


class ApiKeyDefinition(Model):
    """A key that opens the app."""

    key_hash: Annotated[str, AfterValidator(_check_hash)] = Field(repr=False)
    """Argon2 hash of the key (`$argon2id$v=19$…`), never the key."""
    description: str = ""
    """Whose key it is."""
    user: UserIdText | None = None
    """Its holder, as budgets, audit log and handlers know them. Default: `key-` and a hash of `keyHash`."""
    permissions: tuple[Name, ...] = ()
    """What the key permits."""
    enabled: Flag = True
    """False turns the key off. Default true."""
    expires_at: Annotated[AwareDatetime, BeforeValidator(_read_moment)] | None = None
    """When it ends to open anything, like `2027-01-31T00:00:00Z`. Default: never."""

    @property
    def holder(self) -> str:
        """The id of the user who shows it; each key without a `user` is one by itself."""
        return self.user or f"key-{hashlib.sha256(self.key_hash.encode()).hexdigest()[:12]}"

    def counts(self, now: datetime) -> bool:
        """Whether it opens anything at a moment."""
        return self.enabled and (self.expires_at is None or now < self.expires_at)


class InterAppPermission(Model):
    """What another app may trigger here. Accepted and checked; this release does not act on it."""

    allowed_source_app_id: AppIdText
    """The other app's id."""
    allowed_events: tuple[Name, ...] = ()
    """Events that it may trigger."""


class UserRoleDefinition(Model):
    """A role of users. Accepted and checked; this release does not act on it."""

    role_name: str = ""
    """Name for people. Default: the role's key."""
    permissions: tuple[Name, ...] = ()
    """What the role permits."""


class SecurityConfig(Model):
    """Who may do what with an app (`state/security_config.yaml`)."""

    api_keys: tuple[ApiKeyDefinition, ...] = ()
    """Keys that open the app."""
    inter_app_permissions: tuple[InterAppPermission, ...] = ()
    """What other apps may trigger. Accepted and checked; this release does not act on it."""
    user_roles: dict[str, UserRoleDefinition] = Field(default_factory=dict)
    """Roles by name. Accepted and checked; this release does not act on it."""
