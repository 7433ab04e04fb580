"""How a secret may stand in what a server says: as it is, or as one of the usual encodings writes it."""

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote

MIN_REDACTED = 4
"""Characters of the shortest secret that is taken out of texts: a shorter one would tear every text apart."""

_USER_IN_URL = re.compile(r"://([^/?#\s]*)@")

_KEPT_BY_BROWSERS = "!'()*"
"""What `encodeURIComponent` leaves as it is, besides what Python's `quote` does."""


def spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """What to take out of a text for these secrets, the longest first: so no rest of one is left behind."""
    parts = {part for secret in secrets for part in _parts(secret)}
    parts |= {unquote(part) for part in parts}
    found = {text for part in parts if len(part) >= MIN_REDACTED for text in _encoded(part)}
    return tuple(sorted(found, key=len, reverse=True))


def _parts(secret: str) -> Iterator[str]:
    """The secret, and what a server may well repeat alone: the token of `Bearer …`, the password of a URL."""
    yield secret
    scheme, space, token = secret.partition(" ")
    if space and scheme.isalpha():
        yield token
    if user := _USER_IN_URL.search(secret):
        name, _, password = user[1].partition(":")
        # A user without password is a token.
        yield password or name


def _encoded(text: str) -> set[str]:
    return {
        text,
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        quote(text),
        quote(text, safe=""),
        quote(text, safe=_KEPT_BY_BROWSERS),
        quote_plus(text),
    }
