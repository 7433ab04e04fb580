"""Keys and tokens in HTTP: where clients send them, and how they are told that one is wanted (RFC 6750)."""


def shown(authorization: str | None, api_key: str | None) -> str:
    """The credential in `Authorization: Bearer`, else in `X-API-Key`; empty if there is none, or no text."""
    scheme, _, value = (authorization or "").partition(" ")
    found = value.strip() if scheme.lower() == "bearer" else api_key or ""
    return found if found.isprintable() else ""


def challenge(*, was_shown: bool) -> dict[str, str]:
    """The header that goes with a 401. An error is told of a credential only that was there."""
    error = ', error="invalid_token"' if was_shown else ""
    return {"WWW-Authenticate": f'Bearer realm="UHLP"{error}'}
