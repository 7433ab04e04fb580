"""Bodies, framing, static files, sleeping deployments, and a gateway without Redis."""

import asyncio

import orjson
import pytest

from gateway.far_end import Sandbox
from gateway.stage import Stage, raw, route
from support.waiting import eventually
from uhlp_core import keys


async def test_a_body_beyond_the_limit_is_refused(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/", "POST")], sandbox.lanes, maxBodyBytes=10)
    assert (await stage.ask("POST", "/", body=b"x" * 10)).status == 200
    assert (await stage.ask("POST", "/", body=b"x" * 11)).status == 413
    client = await stage.connect()
    client.send(raw("POST", "/", ("Transfer-Encoding", "chunked")) + b"b\r\nxxxxxxxxxxx\r\n0\r\n\r\n")
    assert (await client.read()).status == 413
    assert await client.at_end()
    await client.close()
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        raw("POST", "/", ("Transfer-Encoding", "chunked"), body=b"0\r\n\r\n"),
        raw("POST", "/", ("Content-Length", "3"), body=b"abcd"),
        raw("POST", "/", ("Transfer-Encoding", "chunked, identity")) + b"0\r\n\r\n",
        raw("POST", "/", ("Transfer-Encoding", "chunked")) + b"zz\r\nabc\r\n0\r\n\r\n",
        raw("POST", "/", ("Content-Length", "-1")),
        raw("POST", "/", ("Bad Name", "x")),
    ],
)
async def test_ambiguous_framing_is_refused(stage: Stage, sandbox: Sandbox, request_bytes: bytes) -> None:
    await stage.publish([route("/", "POST"), route("/hidden", component="hidden")], sandbox.lanes)
    client = await stage.connect()
    client.send(request_bytes + raw("GET", "/hidden"))
    assert (await client.read()).status == 400
    assert await client.at_end()
    await client.close()
    assert sandbox.requests == []


async def test_static_files(stage: Stage, sandbox: Sandbox) -> None:
    files = {"index.html": b"<h1>hi</h1>", "a/index.html": b"a", "app.js": b"0123456789"}
    await stage.publish([route("/api")], sandbox.lanes, ui=files)
    index = await stage.ask("GET", "/")
    assert (index.body, index["Content-Type"]) == (b"<h1>hi</h1>", "text/html; charset=utf-8")
    assert index["X-Content-Type-Options"] == "nosniff"
    assert (await stage.ask("GET", "/", ("If-None-Match", index["ETag"]))).status == 304
    part = await stage.ask("GET", "/app.js", ("Range", "bytes=2-4"))
    assert (part.status, part.body, part["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert (await stage.ask("GET", "/app.js", ("Range", "bytes=10-"))).status == 416
    assert (await stage.ask("HEAD", "/app.js"))["Content-Length"] == "10"
    assert (await stage.ask("GET", "/a"))["Location"] == "/a/"
    assert (await stage.ask("POST", "/app.js", body=b""))["Allow"] == "GET, HEAD, OPTIONS"
    for path in ("/../../../app.js", "/..%2findex.html", "/a/..%2f..%2f..%2fx", "/%00", "/%ff"):
        assert (await stage.ask("GET", path)).status == 404, path


async def test_requests_are_served_while_redis_is_away(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    stage.redis_server.kill()
    assert [(await stage.ask("GET", "/")).status for _ in range(3)] == [200, 200, 200]
    stage.redis_server.start()
    await eventually(stage.redis_server.path.exists, "Redis is back")
    await stage.publish([route("/new")], sandbox.lanes)
    assert (await stage.ask("GET", "/new")).status == 200


async def test_a_sleeping_deployment_is_asked_for_and_waited_for(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], [], on_demand=True)
    waiting = asyncio.create_task(stage.ask("GET", "/"))
    await eventually(lambda: stage.redis.exists(keys.load("demo")), "it is asked for")
    await stage.publish([route("/")], sandbox.lanes, on_demand=True)
    assert (await waiting).status == 200


async def test_a_sleeping_revision_that_was_refused_says_why(stage: Stage) -> None:
    await stage.publish([route("/")], [], on_demand=True)
    await stage.redis.hset(keys.quarantine("demo"), "d" * 40, orjson.dumps({"message": "no such module"}))
    response = await stage.ask("GET", "/")
    assert (response.status, response.json()["code"]) == (503, "REVISION_REFUSED")
    assert "no such module" in response.json()["detail"]


async def test_the_platform_s_own_pages_and_the_access_log(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/x")], sandbox.lanes)
    assert (await stage.ask("GET", "/readyz", host="localhost")).status == 200
    assert b'href="/apps/demo/"' in (await stage.ask("GET", "/", host="localhost")).body
    await stage.ask("GET", "/x?a=1", ("X-Request-ID", "logged"))
    log = stage.settings.home.app_log("demo")
    await eventually(log.exists, "the line is written")
    line = orjson.loads(log.read_bytes())
    assert (line["requestId"], line["status"], line["component"]) == ("logged", 200, "hello")
    metrics = (await stage.ask("GET", "/metrics", host="localhost")).body
    assert b'uhlp_http_requests_total{app="demo",code="200",component="hello"}' in metrics
