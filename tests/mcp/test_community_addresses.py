"""Servers of others at an address: where calls go, what goes with them; servers that register themselves."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from argon2 import PasswordHasher

from support import community
from support.community import approve, ask, names, serve, text
from support.mcp_http_server import answering, running
from support.mcp_office import Office
from support.waiting import eventually
from uhlp_core import guess_limit, keys
from uhlp_core.errors import InvalidInput
from uhlp_core.tokens import Claims, TokenKey
from uhlp_mcp.egress import Egress, EgressRefused

HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
LISTS = b'{"jsonrpc": "2.0", "id": 1, "result": {"lists": [' + b"[]," * 40_000 + b"[]]}}"
SECRET = "Bearer s3cret-of-the-tests"


@pytest.fixture
def office_settings() -> dict[str, Any]:
    return {"private_addresses": True}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess_limit, "FAILURE_SECONDS", 0.0)


async def test_a_call_goes_there_with_the_apps_own_credential_only(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UHLP_SECRET_ALPHA__UPSTREAM", SECRET)
    async with running() as url:
        await approve(office, "sums", {"url": url, "headers": {"Authorization": "secret:upstream"}})
        assert await names(office) == ["community.sums.add", "community.sums.headers"]
        assert await office.call("a0", "community.sums.add", a=40, b=2) == {"sum": 42}
        assert (await office.refused("a0", "community.sums.add", a="x")).startswith("INVALID_ARGUMENTS")
        token = TokenKey.of(office.settings.home).sign(
            Claims("alpha", "alpha", instance="a0", component="hello"), 60
        )
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "community.sums.headers"},
        }
        _, answer = await office.post("a0", body, headers={"Authorization": f"Bearer {token}"})
        sent = json.loads(answer["result"]["content"][0]["text"])
    assert sent["authorization"] == "***"  # it came, and is shown to nobody
    assert sent["host"] == url.split("/")[2]
    assert token not in json.dumps(sent)
    assert not [name for name in sent if "cookie" in name or "uhlp" in name]


async def test_where_nobody_may_be_called_nobody_is() -> None:
    public = Egress(private_addresses=False)
    for url in (
        "http://127.0.0.1/mcp",
        "https://[::1]/mcp",
        "https://169.254.169.254/latest",
        "https://10.0.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
    ):
        with pytest.raises(EgressRefused, match="not on the public Internet"):
            await public.check("alpha", url)
    with pytest.raises(EgressRefused, match="must be https"):
        await public.check("alpha", "http://1.1.1.1/mcp")
    for url in ("gopher://1.1.1.1/", "https:///mcp", "https://[::1", "https://host:port/"):
        with pytest.raises(InvalidInput, match="begins with https"):
            await public.check("alpha", url)
    await Egress(private_addresses=True).check("alpha", "http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (web.Response(status=307, headers={"Location": "http://127.0.0.1:1/mcp"}), "redirect"),
        (web.Response(status=302, headers={"Location": "/other"}), "redirect"),
        (web.Response(status=500, text=SECRET), "cannot be used"),
        (web.Response(text=SECRET * 9, content_type="application/json"), "no message of the protocol"),
        (web.Response(text=f"data: {SECRET * 9}\n\n", content_type="text/event-stream"), "cannot be used"),
        (web.Response(body=b"x" * (5 << 20), content_type="application/json"), "larger than 4194304 bytes"),
        (web.Response(body=LISTS, content_type="application/json"), "more than 65536 values"),
        (web.Response(body=LISTS, content_type="application/json", status=400), "more than 65536 values"),
        (web.Response(body=b"data: " + LISTS + b"\n\n", content_type="text/event-stream"), "SSE stream"),
        # Taken for a message by who reads it, whatever else its type says.
        (
            web.Response(
                body=b"x\n\n" * (2 << 20), headers={"Content-Type": "application/json; x=text/event-stream"}
            ),
            "larger than 4194304 bytes",
        ),
    ],
)
async def test_what_is_no_server_is_no_session(
    office: Office,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    response: web.Response,
    told: str,
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("UHLP_SECRET_ALPHA__UPSTREAM", SECRET)
    async with answering(response) as url:
        await serve(office, "odd", {"url": url, "headers": {"Authorization": "secret:upstream"}})
        status, answer = await ask(office, "POST", "/look/alpha/odd")
    assert (status, answer["code"]) == (409, "MCP_SERVER_UNAVAILABLE")
    assert told in answer["detail"]
    # Nor a part of it, from a text that was cut.
    assert not [part for part in ("s3cret", "of-the-tests") if part in json.dumps(answer) + caplog.text]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "secret:upstream"}])
async def test_a_proposal_calls_no_server_of_its_own(
    office: Office, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """An app's own code can write proposals, which nobody has looked at."""
    monkeypatch.setenv("UHLP_SECRET_ALPHA__UPSTREAM", SECRET)
    proposal = "alpha@proposals-sum-3"
    async with running() as url:
        await office.publish("alpha")
        await serve(office, "sums", {"url": url, "headers": headers}, deployment=proposal)
        status, answer = await ask(office, "POST", f"/look/{proposal}/sums")
        assert (status, answer["code"]) == (409, "NOT_FOUND")
        # What main names is the proposal's as well, and as main says it.
        await serve(office, "sums", {"url": url, "headers": headers})
        other = {"url": "https://upstream.example/mcp", "headers": headers}
        await serve(office, "sums", other, deployment=proposal)
        assert (await ask(office, "POST", f"/look/{proposal}/sums"))[0] == 200


async def register(office: Office, credential: str, **body: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    document = {"app": "alpha", "name": "sums", "leaseSeconds": 60, **body}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{office.url}/register", json=document, headers=headers) as response,
    ):
        return response.status, await response.json()


async def test_a_server_registers_itself_where_the_app_lets_it(office: Office) -> None:
    definition = {"register": True}
    key = {"keyHash": HASHER.hash("k3y"), "permissions": ["mcp:register"]}
    reader = {"keyHash": HASHER.hash("reader"), "permissions": ["mcp"]}
    await serve(office, "sums", definition, keys_of_api=[key, reader])
    async with running() as url:
        _, told = await ask(office, "POST", "/look/alpha/sums")
        assert "no server has registered as sums of alpha" in told["detail"]
        assert await register(office, "k3y", url=url) == (
            200,
            {"app": "alpha", "name": "sums", "url": url, "leaseSeconds": 60},
        )
        # The lease is not enough: its tools are pinned like any other's.
        assert await names(office) == []
        pins = await community.look(office, "sums")
        await serve(office, "sums", definition, pins=pins, keys_of_api=[key])
        assert await office.call("a0", "community.sums.add", a=1, b=2) == {"sum": 3}
        stored = keys.mcp_registration("alpha", "sums")
        assert 0 < await office.redis.ttl(stored) <= 60
        await office.redis.pexpire(stored, 1)
        await serve(office, "sums", definition, pins=pins, keys_of_api=[key])
        await eventually(lambda: refuses(office), "the lease is over")

        token = TokenKey.of(office.settings.home).sign(
            Claims("alpha", "alpha", scopes=frozenset({"register"})), 60
        )
        assert (await register(office, token, url=url))[0] == 200
        assert json.loads(await text(office, "sums.headers"))["host"] == url.split("/")[2]


async def test_no_secret_is_sent_to_who_registers(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds a key for registering would choose where it goes. As served before a push was refused."""
    monkeypatch.setenv("UHLP_SECRET_ALPHA__UPSTREAM", SECRET)
    key = {"keyHash": HASHER.hash("k3y"), "permissions": ["mcp:register"]}
    headers = {"Authorization": "secret:upstream"}
    await serve(office, "sums", {"register": True, "headers": headers}, keys_of_api=[key])
    callers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: callers.append(writer), "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        assert (await register(office, "k3y", url=url))[0] == 200
        status, told = await ask(office, "POST", "/look/alpha/sums")
    assert (status, told["code"]) == (409, "MCP_SERVER_UNAVAILABLE")
    assert "whoever may register it would be sent the secrets in its `headers`; remove them" in told["detail"]
    assert callers == []


async def refuses(office: Office) -> bool:
    body = {"name": "community.sums.add", "arguments": {"a": 1, "b": 2}}
    answer = await office.rpc("a0", "tools/call", body)
    return "no server has registered" in answer["result"]["content"][0]["text"]


async def test_nobody_else_registers_anything(office: Office) -> None:
    key = {"keyHash": HASHER.hash("k3y"), "permissions": ["mcp:register"]}
    reader = {"keyHash": HASHER.hash("reader"), "permissions": ["mcp"]}
    await serve(office, "sums", {"register": True}, keys_of_api=[key, reader])
    url = "http://127.0.0.1:9/mcp"
    assert (await register(office, "", url=url))[0] == 401
    assert (await register(office, "wrong", url=url))[0] == 401
    code, refusal = await register(office, "reader", url=url)
    assert code == 403
    assert refusal["error"]["message"] == (
        "this credential may not register servers; an API key with the permission `mcp:register` may, and so "
        "may a token of `uhlp token alpha --tool register`"
    )
    assert (await register(office, "k3y", url=url, app="beta"))[0] == 401
    assert (await register(office, "k3y", url=url, name="other"))[0] == 404
    assert (await register(office, "k3y", url="ftp://127.0.0.1/"))[0] == 400
    assert (await register(office, "k3y", url="http://u:p@127.0.0.1/"))[0] == 400
    assert (await register(office, "k3y", url=url, leaseSeconds=10**9))[0] == 400
    beta = TokenKey.of(office.settings.home).sign(Claims("beta", "beta", scopes=frozenset({"register"})), 60)
    assert (await register(office, beta, url=url))[0] == 404
    assert await office.redis.keys("uhlp:mcp:*") == []
