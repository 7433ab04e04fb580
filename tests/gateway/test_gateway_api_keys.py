"""Routes that ask for an API key: who gets in, and that nobody learns or hands on anything."""

import hashlib
from typing import Any

import jwt
import pytest
from argon2 import PasswordHasher

from gateway.far_end import Sandbox
from gateway.stage import Stage, route
from uhlp_core import guess_limit
from uhlp_state import api_keys

HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
KEY = ("Authorization", "Bearer s3cret")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess_limit, "FAILURE_SECONDS", 0.0)


def key(secret: str, *permissions: str, **more: Any) -> dict[str, Any]:
    return {"keyHash": HASHER.hash(secret), "permissions": list(permissions), **more}


def guarded(pattern: str = "/orders", permission: str = "orders") -> dict[str, Any]:
    return {
        "componentId": "orders",
        "routeMatcher": {"pathPattern": pattern, "methods": ["GET", "POST"], "permission": permission},
    }


async def test_a_key_opens_the_routes_whose_permission_it_has(stage: Stage, sandbox: Sandbox) -> None:
    components = [guarded(), route("/open")]
    await stage.publish(components, sandbox.lanes, api_keys=[key("s3cret", "orders"), key("other", "mcp")])
    assert (await stage.ask("GET", "/orders", KEY)).status == 200
    assert (await stage.ask("GET", "/orders", ("X-API-Key", "s3cret"))).status == 200
    assert (await stage.ask("GET", "/open")).status == 200
    assert len(sandbox.requests) == 3
    refused = await stage.ask("POST", "/orders", ("X-API-Key", "other"), body=b"{}")
    assert (refused.status, refused.json()["code"]) == (403, "FORBIDDEN")
    assert len(sandbox.requests) == 3


@pytest.mark.parametrize("shown", ["guess", "s3cret ", "S3CRET", "", "ü", "x" * 1000])
async def test_who_shows_no_key_of_the_app_stays_outside(stage: Stage, sandbox: Sandbox, shown: str) -> None:
    await stage.publish([guarded()], sandbox.lanes, api_keys=[key("s3cret!", "orders")])
    response = await stage.ask("GET", "/orders", *([("X-API-Key", shown)] if shown else []))
    challenge = 'Bearer realm="UHLP"' + (', error="invalid_token"' if shown else "")
    assert (response.status, response["WWW-Authenticate"]) == (401, challenge)
    assert response.json()["code"] == "UNAUTHENTICATED"
    assert sandbox.requests == []


async def test_a_key_that_the_gateway_has_looked_at_does_not_go_on(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([guarded(), route("/open")], sandbox.lanes, api_keys=[key("s3cret", "orders")])
    await stage.ask("GET", "/orders", KEY, ("x-api-key", "s3cret"), ("X-Thing", "one"))
    await stage.ask("GET", "/open", KEY)
    seen = [request["requestData"]["httpDetails"]["headers"] for request in sandbox.requests]
    assert seen == [
        {"Host": "demo.localhost", "X-Thing": "one"},
        {"Host": "demo.localhost", "Authorization": "Bearer s3cret"},
    ]


async def test_only_a_key_says_who_the_user_is(stage: Stage, sandbox: Sandbox) -> None:
    named, unnamed = key("s3cret", "orders", user="ada@example.org"), key("other", "orders")
    await stage.publish([guarded(), route("/open")], sandbox.lanes, api_keys=[named, unnamed])
    claimed = [("X-User", "bob"), ("X-User-Id", "bob")]
    await stage.ask("GET", "/orders?user=bob", KEY, *claimed)
    await stage.ask("GET", "/orders", ("X-API-Key", "other"))
    await stage.ask("GET", "/open", KEY, *claimed)
    digest = hashlib.sha256(unnamed["keyHash"].encode()).hexdigest()[:12]
    users = ["ada@example.org", f"key-{digest}", ""]
    contexts = [request["context"] for request in sandbox.requests]
    assert [context.get("userInfo") for context in contexts] == [
        {"id": user, "isAuthenticated": True} if user else None for user in users
    ]
    tokens = [jwt.decode(one["mcp_token"], options={"verify_signature": False}) for one in contexts]
    assert [claims["user"] for claims in tokens] == users


async def test_a_key_that_is_taken_back_or_has_ended_opens_nothing(stage: Stage, sandbox: Sandbox) -> None:
    definition = key("s3cret", "orders")
    await stage.publish([guarded()], sandbox.lanes, api_keys=[definition])
    assert (await stage.ask("GET", "/orders", KEY)).status == 200
    for ended in ({"enabled": False}, {"expiresAt": "2001-01-01T00:00:00Z"}):
        await stage.publish([guarded()], sandbox.lanes, api_keys=[definition | ended])
        assert (await stage.ask("GET", "/orders", KEY)).status == 401
    await stage.publish([guarded()], sandbox.lanes)
    assert (await stage.ask("GET", "/orders", KEY)).status == 401


async def test_a_preview_and_another_app_are_opened_by_their_own_apps_keys_only(
    stage: Stage, sandbox: Sandbox
) -> None:
    smuggled = [key("smuggled", "orders")]
    await stage.publish([guarded()], sandbox.lanes, deployment="demo@next", api_keys=smuggled)
    here = {"host": "next--demo.localhost"}
    assert (await stage.ask("GET", "/orders", ("X-API-Key", "smuggled"), **here)).status == 401
    await stage.publish([guarded()], sandbox.lanes, api_keys=[key("s3cret", "orders")])
    await stage.publish([guarded()], sandbox.lanes, deployment="shop")
    assert (await stage.ask("GET", "/orders", ("X-API-Key", "smuggled"), **here)).status == 401
    assert (await stage.ask("GET", "/orders", KEY, **here)).status == 200
    assert (await stage.ask("GET", "/orders", KEY, host="shop.localhost")).status == 401


async def test_a_flood_of_keys_is_turned_away(
    stage: Stage, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.publish([guarded()], sandbox.lanes, api_keys=[key("s3cret", "orders")])
    assert (await stage.ask("GET", "/orders", KEY)).status == 200
    monkeypatch.setattr(api_keys, "MAX_WAITING", 0)
    flooded = await stage.ask("GET", "/orders", ("X-API-Key", "guess"))
    assert (flooded.status, flooded["Retry-After"]) == (429, "1")
    assert (await stage.ask("GET", "/orders", KEY)).status == 200, "who is known is let in all the same"
