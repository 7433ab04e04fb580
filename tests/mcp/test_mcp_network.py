"""The door for people's clients: who gets in, as which app, and what they see; attacks are turned away."""

import asyncio
import io
import threading
from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any, Self

import aiohttp
import pytest
from argon2 import PasswordHasher

from support.mcp_office import API_KEY, OPERATOR, Office
from support.waiting import eventually
from uhlp_core import guess_limit
from uhlp_core.tokens import Claims, TokenKey
from uhlp_mcp.access import scopes_of
from uhlp_mcp.tools import Caller
from uhlp_state import api_keys

GET = "core.state.getRuntimeValue"
HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess_limit, "FAILURE_SECONDS", 0.0)


def key(secret: str, *permissions: str, **more: Any) -> dict[str, Any]:
    return {"keyHash": HASHER.hash(secret), "permissions": list(permissions), **more}


async def ask(
    office: Office,
    path: str,
    credential: str = "",
    method: str = "tools/list",
    headers: Mapping[str, str] | None = None,
    **params: Any,
) -> tuple[int, Any, Mapping[str, str]]:
    """HTTP status, JSON and headers of the answer."""
    sent = {"Authorization": f"Bearer {credential}"} if credential else {}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{office.url}{path}", json=message, headers={**sent, **(headers or {})}) as response,
    ):
        return response.status, await response.json(), response.headers


def names(document: Any) -> list[str]:
    return [tool["name"] for tool in document["result"]["tools"]]


async def test_an_api_key_opens_what_its_permissions_name_in_its_own_app(office: Office) -> None:
    keys = [key(API_KEY, "mcp", f"mcp:{GET}", "mcp:core.framework.*"), key("other", "orders")]
    await office.publish("alpha", keys_of_api=keys)
    status, document, _ = await ask(office, "/alpha", API_KEY)
    assert (status, names(document)) == (
        200,
        ["core.framework.getConfigValue", "core.framework.logFrameworkMessage", GET],
    )
    status, document, _ = await ask(office, "/alpha", "", headers={"X-API-Key": API_KEY})
    assert status == 200
    hidden = {"name": "core.state.setRuntimeValue", "arguments": {"key": "k", "value": 1}}
    absent = {"name": "core.state.putRuntimeValue", "arguments": {}}
    answers = [await ask(office, "/alpha", API_KEY, "tools/call", **call) for call in (hidden, absent)]
    texts = [answer[1]["error"]["message"].replace(call["name"], "…") for answer, call in zip(
        answers, (hidden, absent), strict=True
    )]  # fmt: skip
    assert texts[0] == texts[1] == f"there is no tool named '…'; did you mean '{GET}'?"
    assert (await ask(office, "/alpha", "other"))[0] == 403
    assert (await ask(office, "/beta", API_KEY))[0] == 401
    assert (await ask(office, "", API_KEY))[0] == 401


async def test_a_key_or_token_may_ask_for_names_without_dots(office: Office) -> None:
    safe = key("safe", f"mcp:{GET}", "mcp-safe-names")
    await office.publish("alpha", keys_of_api=[key("plain", f"mcp:{GET}"), safe])
    claims = Claims("alpha", "alpha", scopes=frozenset({GET}), safe_names=True)
    token = TokenKey.of(office.settings.home).sign(claims, 60)
    for path in ("/alpha", "/alpha?names=safe"):
        assert names((await ask(office, path, "safe"))[1]) == ["core__state__getRuntimeValue"]
        assert names((await ask(office, path, token))[1]) == ["core__state__getRuntimeValue"]
    assert names((await ask(office, "/alpha", "plain"))[1]) == [GET]


async def test_a_change_of_the_configuration_takes_effect_at_once(office: Office) -> None:
    await office.publish("alpha", keys_of_api=[definition := key(API_KEY, "mcp:core.*")])
    assert {GET, "core.state.setRuntimeValue"} < set(names((await ask(office, "/alpha", API_KEY))[1]))
    await office.publish("alpha", keys_of_api=[definition | {"permissions": [f"mcp:{GET}"]}])
    assert names((await ask(office, "/alpha", API_KEY))[1]) == [GET]
    await office.publish("alpha", keys_of_api=[definition | {"enabled": False}])
    assert (await ask(office, "/alpha", API_KEY))[0] == 401
    await office.publish("alpha")
    assert (await ask(office, "/alpha", API_KEY))[0] == 401


async def test_a_key_ends_when_its_time_is_over(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [
        key("ends", "mcp", expiresAt="2999-01-01T00:00:00Z"),
        key("ended", "mcp", expiresAt="2001-01-01T00:00+00:00"),
    ]
    await office.publish("alpha", keys_of_api=keys)
    assert [(await ask(office, "/alpha", one))[0] for one in ("ends", "ended")] == [200, 401]

    class LongAfter(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(2999, 1, 1, tzinfo=tz)

    monkeypatch.setattr(api_keys, "datetime", LongAfter)
    assert (await ask(office, "/alpha", "ends"))[0] == 401, "though it is remembered"


async def test_a_key_is_hashed_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    match = api_keys._match
    monkeypatch.setattr(api_keys, "_match", lambda defined, key: hashed.append(key) or match(defined, key))
    await office.publish("alpha", keys_of_api=[key(API_KEY, "mcp")])
    for _ in range(3):
        assert (await ask(office, "/alpha", API_KEY))[0] == 200
    assert hashed == [API_KEY]


async def test_a_preview_is_opened_by_productions_keys_only(office: Office) -> None:
    await office.publish("alpha", keys_of_api=[key(API_KEY, f"mcp:{GET}")])
    await office.publish("alpha@next", keys_of_api=[key("smuggled", "mcp:*")])
    assert (await ask(office, "/alpha@next", API_KEY))[0] == 200
    assert (await ask(office, "/alpha@next", "smuggled"))[0] == 401
    assert (await ask(office, "/alpha@none", API_KEY))[0] == 404


async def test_signed_tokens_open_their_own_deployment(office: Office) -> None:
    sign = TokenKey.of(office.settings.home).sign
    token = sign(Claims("alpha", "alpha", scopes=frozenset({GET})), 60)
    for path in ("", "/alpha"):
        status, document, _ = await ask(office, path, token)
        assert (status, names(document)) == (200, [GET])
    for path in ("/beta", "/alpha@next", "/nothing"):
        assert (await ask(office, path, token))[0] == 404
    refused = (
        sign(Claims("alpha", "alpha", "python", "a0", "hello"), 60),
        sign(Claims("alpha", "alpha"), -1),
        sign(Claims("alpha", "alpha", audience="other"), 60),
        TokenKey(b"k" * 32).sign(Claims("alpha", "alpha"), 60),
    )
    for wrong in refused:
        assert (await ask(office, "/alpha", wrong))[0] == 401


async def test_the_operator_acts_as_any_app_that_is_named(office: Office) -> None:
    status, document, _ = await ask(office, "", OPERATOR)
    told = "the operator token opens one app at a time: use /mcp/<app>"
    assert (status, document["error"]["message"]) == (403, told)
    call = {"name": "core.framework.getConfigValue", "arguments": {"key": "greeting"}}
    _, document, _ = await ask(office, "/beta", OPERATOR, "tools/call", **call)
    assert document["result"]["structuredContent"] == {
        "key": "greeting",
        "found": True,
        "value": "other",
    }
    for path in ("/nothing", "/Bad Name", "/alpha/x"):
        assert (await ask(office, path, OPERATOR))[0] == 404


async def test_who_is_not_known_learns_nothing(office: Office) -> None:
    await office.publish("alpha", keys_of_api=[key(API_KEY, "mcp")])
    seen = set()
    for path in ("", "/alpha", "/nothing", "/Bad Name"):
        status, document, headers = await ask(office, path)
        assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="UHLP"')
        seen.add(document["error"]["message"])
    assert len(seen) == 1
    wrong = [await ask(office, path, "guess") for path in ("/alpha", "/nothing", "/Bad Name")]
    assert {(status, document["error"]["message"]) for status, document, _ in wrong} == {
        (401, "the key is not valid here, or not any more")
    }
    assert {headers["WWW-Authenticate"] for _, _, headers in wrong} == {
        'Bearer realm="UHLP", error="invalid_token"'
    }


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example:1"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_pages_of_other_sites_are_turned_away(
    office: Office, headers: dict[str, str], status: int
) -> None:
    assert (await ask(office, "/alpha", OPERATOR, headers=headers))[0] == status


@pytest.mark.parametrize(
    "header", [b"Authorization: Bearer \xff\xfe", b"X-API-Key: \xff", b"Authorization: Bearer"]
)
async def test_a_credential_that_is_no_text_is_none(office: Office, header: bytes) -> None:
    host, port = office.url.removeprefix("http://").removesuffix("/mcp").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /mcp/%FF HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\nContent-Length: 0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_guessing_is_slow(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess_limit, "FAILURE_SECONDS", 30.0)
    guesses = [asyncio.create_task(ask(office, "/alpha", f"guess{number}")) for number in range(9)]
    done, waiting = await asyncio.wait(guesses, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    (refused,) = done
    status, _, headers = refused.result()
    assert (status, headers["Retry-After"]) == (429, "1")
    assert (await ask(office, "/alpha", OPERATOR))[0] == 200
    for guess in waiting:
        guess.cancel()


async def test_unknown_keys_cannot_pile_up(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MAX_WAITING", 0)
    await office.publish("alpha", keys_of_api=[key(API_KEY, "mcp")])
    assert (await ask(office, "/alpha", API_KEY))[0] == 429


async def test_guesses_at_one_apps_keys_keep_out_no_client_of_another(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, match = threading.Event(), api_keys._match

    def slow(defined: Any, sent: str) -> Any:
        if sent.startswith("guess"):
            hold.wait(30)
        return match(defined, sent)

    monkeypatch.setattr(api_keys, "_match", slow)
    for app in ("alpha", "beta"):
        await office.publish(app, keys_of_api=[key(API_KEY, "mcp")])
    guesses = [asyncio.create_task(ask(office, "/alpha", f"guess{number}")) for number in range(20)]
    try:
        done, _ = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert {guess.result()[0] for guess in done} == {429}
        async with asyncio.timeout(10):
            assert (await ask(office, "/beta", API_KEY))[0] == 200
    finally:
        hold.set()
        await asyncio.gather(*guesses)


async def test_without_redis_nobody_is_let_in_by_a_key(office: Office) -> None:
    await office.publish("alpha", keys_of_api=[key(API_KEY, "mcp")])
    assert (await ask(office, "/alpha", API_KEY))[0] == 200
    office.redis_server.kill()

    async def is_refused() -> bool:
        return (await ask(office, "/alpha", API_KEY))[0] == 503

    await eventually(is_refused, "what was known a moment ago no longer counts")
    token = TokenKey.of(office.settings.home).sign(Claims("alpha", "alpha"), 60)
    assert (await ask(office, "", token))[0] == 200


async def test_probes_need_no_credential(office: Office) -> None:
    base = office.url.removesuffix("/mcp")

    async def ready() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"{base}/readyz") as response:
            return response.status == 200

    await eventually(ready, "the daemon is ready")
    async with aiohttp.ClientSession() as session:
        for path, status in (("/healthz", 200), ("/", 404), ("/metrics", 404)):
            async with session.get(f"{base}{path}") as response:
                assert response.status == status


def test_permissions_become_scopes() -> None:
    assert scopes_of(["mcp", "mcp:core.llm.generate", "orders", "mcpx", "MCP:core.*"]) == {
        "app.*",
        "core.llm.generate",
    }
    assert scopes_of(["orders"]) == frozenset()
    nobody = Caller("a", "a", scopes=frozenset({""}))
    assert not nobody.may_use("app.x")


def _request(*headers: bytes, body: bytes = b"") -> bytes:
    first = (b"POST /mcp/alpha HTTP/1.1", b"Host: localhost", f"X-API-Key: {API_KEY}".encode())
    return b"\r\n".join((*first, b"Content-Type: application/json", *headers, b"", body))


LIST = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
CHUNKED = b"2e\r\n" + LIST + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        _request(b"Content-Length: 46", b"Transfer-Encoding: chunked", body=CHUNKED),
        _request(b"Content-Length: 46", b"Content-Length: 47", body=LIST),
        _request(b"Content-Length: +46", body=LIST),
        _request(b"Content-Length : 46", body=LIST),
        _request(b"Transfer-Encoding: chunked, identity", body=CHUNKED),
        _request(b"Transfer-Encoding: xchunked", body=CHUNKED),
        _request(b"Content-Length: 46", b"Host: evil.example", body=LIST),
        _request(b"Content-Length: 46", b"X: a\0b", body=LIST),
        _request(b"X: " + b"a" * 70_000),
    ],
    ids=["both", "twice", "sign", "space", "identity", "unknown", "two hosts", "NUL", "huge header"],
)
async def test_a_request_that_can_be_read_in_two_ways_is_refused(
    office: Office, request_bytes: bytes
) -> None:
    await office.publish("alpha", keys_of_api=[key(API_KEY, "mcp:*")])
    host, port = office.url.removeprefix("http://").removesuffix("/mcp").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_bytes + b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert answer.count(b"HTTP/1.") == 1


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 2_000_000 + b"]" * 2_000_000,
        b'{"a":' * 600_000 + b"1" + b"}" * 600_000,
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":'
        + b"[" * 1_500_000
        + b"]" * 1_500_000
        + b"}",
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"' + b"x" * 4_000_000 + b'"}}',
        b'{"jsonrpc":"2.0","id":' + b"9" * 4_000_000 + b',"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud800","arguments":{}}}',
    ],
    ids=["lists", "objects", "parameters", "name", "number", "half a character"],
)
async def test_hostile_json_is_answered_soon_and_holds_up_nobody(office: Office, body: bytes) -> None:
    await office.publish("alpha", keys_of_api=[key(API_KEY, "mcp:*")])
    headers = {"X-API-Key": API_KEY, "Content-Type": "application/json"}
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession() as session,
        session.post(f"{office.url}/alpha", data=io.BytesIO(body), headers=headers) as response,
    ):
        told = await response.read()
    assert response.status in (200, 400, 413)
    assert b'"error"' in told
    assert len(told) < 2000
    assert await office.call("b0", GET, key="k") == {"found": False}
