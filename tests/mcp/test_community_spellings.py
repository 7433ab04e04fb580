"""A secret is taken out of what a server says, however the server writes it down."""

import json
from urllib.parse import quote, quote_plus

import pytest

from uhlp_mcp.community.connection import Connection
from uhlp_mcp.community.spellings import spellings

PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQ+/IBADANBg==\n-----END PRIVATE KEY-----"
URL = "postgres://u:hunt%2Fer2@h/db"


def redacted(text: str, *secrets: str) -> str:
    return Connection("alpha", "one", 1.0, None, "", (), {}, {}, spellings(secrets)).redacted(text)


@pytest.mark.parametrize(
    ("secret", "said", "shown"),
    [
        ('pa"ss\\w0rd', 'pa"ss\\w0rd', "***"),
        ('pa"ss\\w0rd', json.dumps({"is": 'pa"ss\\w0rd'}), '{"is": "***"}'),
        ("schlüssel", json.dumps(["schlüssel"]), '["***"]'),
        ("schlüssel", json.dumps(["schlüssel"], ensure_ascii=False), '["***"]'),
        ('grö"ße', json.dumps(['grö"ße'], ensure_ascii=False), '["***"]'),
        (PEM, json.dumps({"key": PEM}), '{"key": "***"}'),
        ("a b/c+d!", f"?key={quote('a b/c+d!', safe='')}", "?key=***"),
        ("a b/c+d!", f"?key={quote('a b/c+d!')}", "?key=***"),
        ("a b/c+d!", f"?key={quote_plus('a b/c+d!')}", "?key=***"),
        ("a b/c+d!", "?key=a%20b%2Fc%2Bd!", "?key=***"),
        ("100%25sure", "it is 100%sure", "it is ***"),
        ("postgres://u:hunter2hunter2@h/db", 'password "hunter2hunter2" rejected', 'password "***" rejected'),
        (URL, f"{URL} has hunt%2Fer2, or hunt/er2", "*** has ***, or ***"),
        ("https://t0ken@git.example/x.git", "the token t0ken has expired", "the token *** has expired"),
        ("https://t0ken:@api.example/", "the token t0ken has expired", "the token *** has expired"),
        ("Bearer abc-def", "no such token: abc-def", "no such token: ***"),
        # Neither torn apart for a short secret, nor for the short password or user of a longer one.
        ("abc", "abc", "abc"),
        ("redis://user:abc@h/0", "user abc", "user abc"),
    ],
)
def test_a_secret_is_taken_out(secret: str, said: str, shown: str) -> None:
    assert redacted(said, secret) == shown


def test_no_rest_of_a_longer_secret_is_left_by_a_shorter_one() -> None:
    assert redacted('pa\\"ssword and pa"ss', 'pa"ss', 'pa"ssword') == "*** and ***"
