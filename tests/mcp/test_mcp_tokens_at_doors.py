"""Tokens at a sandbox's own socket: what is forged, over, foreign or replayed opens nothing."""

from pathlib import Path

import aiohttp
import jwt
import orjson
import pytest

from support.mcp_office import Office
from uhlp_core import guess_limit
from uhlp_core.tokens import Claims, TokenKey

CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "core.framework.logFrameworkMessage", "arguments": {"level": "info", "message": "hi"}},
}
OWN = Claims("alpha", "alpha", "python", "a0", "hello")


async def status_of(office: Office, token: str, instance: str = "a0") -> int:
    return (await office.post(instance, CALL, headers={"Authorization": f"Bearer {token}"}))[0]


async def test_a_sandboxs_own_token_is_taken_again_and_again(office: Office) -> None:
    token = TokenKey.of(office.settings.home).sign(OWN, 60)
    for _ in range(2):
        assert await status_of(office, token) == 200
    line = orjson.loads(Path(office.settings.home.app_log("alpha")).read_bytes().splitlines()[-1])
    assert (line["instance"], line["app"]) == ("a0", "alpha")


@pytest.mark.parametrize(
    "claims",
    [
        Claims("alpha", "alpha", "python", "a1", "hello"),
        Claims("alpha", "alpha@next", "python", "a0", "hello"),
        Claims("beta", "beta", "python", "b0", "hello"),
        Claims("alpha", "alpha"),
        Claims("alpha", "alpha", "python", "a0", "hello", audience="other"),
    ],
    ids=["other instance", "other deployment", "other app", "a person's", "other audience"],
)
async def test_a_token_for_elsewhere_is_refused(office: Office, claims: Claims) -> None:
    assert await status_of(office, TokenKey.of(office.settings.home).sign(claims, 60)) == 401


async def test_a_token_replayed_at_another_sandbox_is_refused(office: Office) -> None:
    token = TokenKey.of(office.settings.home).sign(OWN, 60)
    assert await status_of(office, token) == 200
    assert await status_of(office, token, "b0") == 401


async def test_forged_and_expired_tokens_are_refused(office: Office) -> None:
    assert await status_of(office, TokenKey(b"k" * 32).sign(OWN, 60)) == 401
    assert await status_of(office, TokenKey.of(office.settings.home).sign(OWN, -1)) == 401
    assert await status_of(office, "nonsense") == 401
    assert (await office.post("a0", CALL))[0] == 200  # without a token, the socket alone tells


@pytest.mark.parametrize("target", ["", "/alpha", "/beta", "/alpha@next"])
async def test_no_forged_token_opens_the_network_door(
    office: Office, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(guess_limit, "FAILURE_SECONDS", 0.0)
    key = TokenKey.of(office.settings.home)
    true = key.sign(Claims("alpha", "alpha"), 60)
    head, body, signature = true.split(".")
    payload = jwt.decode(true, options={"verify_signature": False})
    swapped = jwt.encode(payload | {"app": "beta", "sub": "beta"}, b"x" * 32, "HS256")
    forged = {
        "none": jwt.encode(payload, "", "none"),
        "other key": swapped,
        "other body": ".".join((head, swapped.split(".")[1], signature)),
        "no signature": f"{head}.{body}.",
        "key in the header": jwt.encode(payload, b"y" * 32, "HS256", headers={"jwk": {"k": "eXk"}}),
        "key by a path": jwt.encode(payload, bytes(32), "HS256", headers={"kid": "/dev/null"}),
        "expired": key.sign(Claims("alpha", "alpha"), -1),
        "a sandbox's": key.sign(OWN, 60),
    }
    seen = set()
    async with aiohttp.ClientSession() as session:
        for how, token in forged.items():
            headers = {"Authorization": f"Bearer {token}"}
            async with session.post(f"{office.url}{target}", json=CALL, headers=headers) as response:
                assert response.status == 401, how
                if how != "a sandbox's":
                    seen.add(await response.text())
    assert len(seen) == 1
