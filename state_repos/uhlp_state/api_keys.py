"""Finds the API key of an app that a client has sent, among the Argon2 hashes of its security configuration.

Hashing is slow by design: it runs in threads, few at a time, and a key that was found is remembered.
"""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from uhlp_core.errors import UhlpError
from uhlp_state.model import ApiKeyDefinition

MAX_KEY = 512
"""Characters of a key; what is longer is none."""

MAX_VERIFYING = 2
"""Keys hashed at the same time: each takes a core and up to 256 MiB."""

MAX_WAITING = 16
"""Keys of one app that wait to be hashed; for more, nobody would get an answer in time."""

MAX_REMEMBERED = 4096
"""Keys remembered, some hundred bytes each."""


class TooManyKeys(UhlpError):
    """So many unknown keys are being checked that this one has to be sent again."""

    code = "TOO_MANY_KEYS"
    retry_after = 1.0


class ApiKeys:
    """Keeps no key: only keyed hashes, under a secret that ends with the process."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._places = asyncio.Semaphore(MAX_VERIFYING)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """One key of an app at a time: guesses at one app's do not keep out the clients of the others."""
        self._pending: Counter[str] = Counter()
        self._known: dict[bytes, ApiKeyDefinition] = {}

    async def find(self, app: str, defined: Sequence[ApiKeyDefinition], key: str) -> ApiKeyDefinition | None:
        """The definition in force that `key` belongs to, or None. Raises TooManyKeys.

        A remembered key counts only as long as the very same definition is among `defined`: any change of
        the key in the app's configuration takes effect at once, and so does its end.
        """
        if not key or len(key) > MAX_KEY:
            return None
        now = datetime.now(UTC)
        in_force = [one for one in defined if one.counts(now)]
        digest = hashlib.blake2b(f"{app}\0{key}".encode(), key=self._secret).digest()
        known = self._known.get(digest)
        if known is not None and known in in_force:
            return known
        if not in_force:
            return None
        if self._pending[app] >= MAX_WAITING:
            raise TooManyKeys("too many keys are being checked; try again in a second")
        self._pending[app] += 1
        try:
            turn = self._turns.setdefault(app, asyncio.Lock())
            async with turn, self._places:
                found = await asyncio.to_thread(_match, in_force, key)
        finally:
            self._pending[app] -= 1
            if not self._pending[app]:
                del self._pending[app]
        if found is not None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[digest] = found
        return found


def _match(defined: Sequence[ApiKeyDefinition], key: str) -> ApiKeyDefinition | None:
    hasher = PasswordHasher()
    for one in defined:
        try:
            hasher.verify(one.key_hash, key)
        except (VerificationError, InvalidHashError):
            continue
        return one
    return None
