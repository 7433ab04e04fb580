"""Signed tokens: what is forged, expired or meant for others is refused; the key is made once."""

import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest

from uhlp_core import tokens
from uhlp_core.home import Home
from uhlp_core.tokens import Claims, TokenCache, TokenKey, Unauthenticated

CLAIMS = Claims(
    "shop", "shop@next", "python", "i0", "pay", "ada", frozenset({"app.*", "core.llm.generate"}), 3
)


@pytest.fixture
def home(folder: Path) -> Home:
    home = Home(folder / "home")
    home.create()
    return home


def test_a_token_says_what_was_signed(home: Home) -> None:
    assert TokenKey.of(home).verify(TokenKey.of(home).sign(CLAIMS, 60), "mcp") == CLAIMS


def test_the_key_is_made_once_and_closed_to_others(home: Home) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = {key.sign(CLAIMS, 1e9) for key in threads.map(TokenKey.of, [home] * 32)}
    keys = {jwt.decode(token, options={"verify_signature": False})["sub"] for token in made}
    assert keys == {"shop@next"}
    for token in made:
        assert TokenKey.of(home).verify(token, "mcp") == CLAIMS
    (path,) = home.secrets.glob("token-key*")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "claims", [{"aud": "other"}, {"iss": "other"}, {"exp": 1}, {"exp": None}, {"sub": None}, {"aud": None}]
)
def test_a_token_that_is_not_for_here_and_now_is_refused(home: Home, claims: dict[str, object]) -> None:
    key = TokenKey.of(home)
    payload = jwt.decode(key.sign(CLAIMS, 60), options={"verify_signature": False}) | claims
    payload = {name: value for name, value in payload.items() if value is not None}
    forged = jwt.encode(payload, (home.secrets / "token-key").read_bytes(), "HS256")
    with pytest.raises(Unauthenticated):
        key.verify(forged, "mcp")


def test_a_forged_token_is_refused(home: Home) -> None:
    key = TokenKey.of(home)
    token = key.sign(CLAIMS, 60)
    head, body, signature = token.split(".")
    unsigned = jwt.encode(jwt.decode(token, options={"verify_signature": False}), "", "none")
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
    foreign = TokenKey(b"x" * 32).sign(CLAIMS, 60)
    for forged in (unsigned, f"{head}.{body}.{flipped}", f"{head}.{body}.", foreign, "", "a.b.c"):
        with pytest.raises(Unauthenticated):
            key.verify(forged, "mcp")


def test_the_cache_signs_once_until_half_the_life_is_over(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = TokenKey.of(home)
    cache = TokenCache(key)
    now = time.time()
    first = cache.token("shop@next", "python", "i0", "pay")
    assert key.verify(first, "mcp") == Claims("shop", "shop@next", "python", "i0", "pay")
    assert cache.token("shop@next", "python", "i0", "pay") is first
    assert cache.token("shop@next", "python", "i1", "pay") != first
    assert key.verify(cache.token("shop@next", "python", "i0", "pay", "ada", 2), "mcp").depth == 2
    monkeypatch.setattr(tokens.time, "time", lambda: now + tokens.REQUEST_TOKEN_SECONDS / 2 + 1)
    assert cache.token("shop@next", "python", "i0", "pay") != first
