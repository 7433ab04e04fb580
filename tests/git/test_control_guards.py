"""Attacks on the control surface: other host names, pages of other sites, wrong tokens."""

import asyncio
import logging

import aiohttp
import pytest

from git.git_world import World, control, fetch
from uhlp_control.server import serve
from uhlp_core.errors import InvalidInput

PATH = "/git/hello.git/info/refs?service=git-upload-pack"
TOKEN = "correct horse battery staple"


async def statuses(address, *headers, path=PATH):
    return [(await fetch(address + path, headers=given))[0] for given in headers]


async def test_only_the_platforms_own_host_names_are_answered(tmp_path):
    world = World(tmp_path / "home", domain="apps.example.org")
    world.create()
    async with control(world) as address:
        good = ["localhost", "LOCALHOST:8081", "localhost.", "127.0.0.1:99", "[::1]:8081", "apps.example.org"]
        assert await statuses(address, *({"Host": host} for host in good)) == [200] * len(good)
        bad = [
            "hello.localhost",
            "hello.apps.example.org",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
        ]
        assert await statuses(address, *({"Host": host} for host in bad)) == [421] * len(bad)


async def test_pages_of_apps_and_other_sites_are_refused(world):
    world.create()
    async with control(world) as address:
        own = address
        bad = [
            {"Origin": "http://localhost:8080"},
            {"Origin": "http://hello.localhost:8080"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ]
        assert await statuses(address, *bad) == [403] * len(bad)
        assert await statuses(address, {"Origin": own}, {"Sec-Fetch-Site": "none"}) == [200, 200]


async def test_the_operator_token(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    world = World(tmp_path / "home", operator_token=TOKEN)
    work = world.clone(tmp_path / "work")
    async with control(world) as address:
        port = address.rpartition(":")[2]
        refused = await asyncio.to_thread(work.push, f"http://me:wrong@localhost:{port}/git/hello.git")
        assert refused.returncode == 128 and "Authentication failed" in refused.stderr
        assert list(world.home.repos.iterdir()) == []
        secret = TOKEN.replace(" ", "%20")
        taken = await asyncio.to_thread(work.push, f"http://me:{secret}@localhost:{port}/git/hello.git")
        assert taken.returncode == 0, taken.stderr
        wrong = [{}, {"Authorization": "Basic !"}, {"Authorization": f"Bearer {TOKEN}"}]
        assert await statuses(address, *wrong) == [401] * 3
        assert await statuses(address, {}, path="/healthz") == [200]
    assert TOKEN not in caplog.text and secret not in caplog.text


async def test_guesses_are_slowed_down_together(tmp_path):
    world = World(tmp_path / "home", operator_token=TOKEN)
    guess = {"Authorization": aiohttp.encode_basic_auth("x", "guess")}
    right = {"Authorization": aiohttp.encode_basic_auth("x", TOKEN)}
    world.create()
    async with control(world) as address:
        guesses = [asyncio.create_task(statuses(address, guess)) for _ in range(20)]
        answers = [status for done in await asyncio.gather(*guesses) for status in done]
        assert answers.count(401) == 8 and answers.count(429) == 12
        assert await statuses(address, right) == [200]


async def test_it_does_not_listen_to_others_without_a_token(tmp_path):
    world = World(tmp_path / "home", control_bind="0.0.0.0")
    with pytest.raises(InvalidInput, match="no operator token"):
        await serve(world.settings, asyncio.Event())


async def test_each_request_has_an_id(world, caplog):
    caplog.set_level(logging.INFO)
    world.create()
    async with control(world) as address:
        _, sent, _ = await fetch(address + PATH, headers={"X-Request-ID": "abc-1"})
        _, odd, _ = await fetch(address + PATH, headers={"X-Request-ID": "a b\tc"})
    assert sent["X-Request-ID"] == "abc-1"
    assert len(odd["X-Request-ID"]) == 32
    logged = [record.requestId for record in caplog.records if hasattr(record, "requestId")]
    assert logged == ["abc-1", odd["X-Request-ID"]]
