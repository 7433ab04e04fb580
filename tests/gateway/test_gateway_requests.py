"""What a handler gets of an HTTP request, and what a client gets of its result (specification 2.4)."""

import re

import pytest

from gateway.far_end import Sandbox
from gateway.stage import Stage, raw, route
from uhlp_core.tokens import Claims, TokenKey


async def test_a_request_is_sent_as_specified_and_its_result_returned(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/hello/:name")], sandbox.lanes, configuration={"greeting": "hi"})
    response = await stage.ask("GET", "/hello/w%C3%B6rld?a=1&b=x&b=y&c=", ("X-Thing", "one"))
    assert response.status == 200
    assert response.json() == {"ok": True}
    assert response["Content-Type"] == "application/json"
    (request,) = sandbox.requests
    assert request["requestId"] == response["X-Request-ID"]
    assert request["requestData"] == {
        "source": "http",
        "httpDetails": {
            "method": "GET",
            "path": "/hello/w%C3%B6rld?a=1&b=x&b=y&c=",
            "routePattern": "/hello/:name",
            "pathParameters": {"name": "wörld"},
            "queryParameters": {"a": "1", "b": ["x", "y"], "c": ""},
            "headers": {"Host": "demo.localhost", "X-Thing": "one"},
            "body": "",
            "bodyEncoding": "utf8",
        },
    }
    token = request["context"].pop("mcp_token")
    claims = TokenKey.of(stage.settings.home).verify(token, "mcp")
    assert claims == Claims("demo", "demo", "python", sandbox.lanes[0]["instance"], "hello")
    assert request["context"] == {
        "appId": "demo",
        "componentId": "hello",
        "mcp_endpoint": f"unix:{sandbox.folder}/mcp.sock",
        "stateConfig": {
            "type": "mcp_tool",
            "readTool": "core.state.getDefinitionFileContent",
            "writeTool": "core.state.applyDefinitionDiff",
        },
        "configuration": {"greeting": "hi"},
        "applicationInfo": {"deploymentMode": "production"},
        "deployment": "demo",
        "revision": "c" * 40,
        "tree": "d" * 40,
        "taskDetails": {"script": "handler.py", "function": "handle"},
        "expectedResultFormat": None,
        "timeoutMs": 30000,
    }


async def test_what_is_ours_or_hop_by_hop_does_not_reach_the_handler(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/", "POST")], sandbox.lanes)
    await stage.ask(
        "POST",
        "/",
        ("Connection", "keep-alive, X-Private"),
        ("X-Private", "1"),
        ("Proxy-Authorization", "secret"),
        ("Cookie", "a=1"),
        ("Cookie", "b=2"),
        ("Accept", "text/html"),
        ("accept", "text/plain"),
        ("X-Request-ID", "mine-1"),
        ("X-Trace-ID", "trace-1"),
        body=b"\xff\x00",
    )
    (request,) = sandbox.requests
    details = request["requestData"]["httpDetails"]
    assert details["headers"] == {
        "Host": "demo.localhost",
        "Cookie": "a=1; b=2",
        "Accept": "text/html, text/plain",
        "Content-Length": "2",
        "Content-Type": "application/json",
    }
    assert (details["body"], details["bodyEncoding"]) == ("/wA=", "base64")
    assert request["requestId"] == "mine-1"
    assert "X-Request-ID: mine-1\r\n" in sandbox.heads[0]
    assert "X-Trace-ID: trace-1\r\n" in sandbox.heads[0]


@pytest.mark.parametrize("given", ['a"b', "a b", "x" * 129, "ü"])
async def test_a_request_id_that_is_not_safe_is_replaced(stage: Stage, sandbox: Sandbox, given: str) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    response = await stage.ask("GET", "/", ("X-Request-ID", given))
    assert re.fullmatch("[0-9a-f]{32}", response["X-Request-ID"])
    assert sandbox.requests[0]["requestId"] == response["X-Request-ID"]


@pytest.mark.parametrize(
    ("path", "host", "deployment", "seen"),
    [
        ("/x?q=1", "demo.localhost", "demo", "/x?q=1"),
        ("/x", "DEMO.LocalHost.:8080", "demo", "/x"),
        ("/x", "next--demo.localhost", "demo@next", "/x"),
        ("/apps/demo/x?q=1", "localhost:8080", "demo", "/x?q=1"),
        ("/apps/demo/x", "127.0.0.1", "demo", "/x"),
        ("/apps/demo@next/x", "[::1]:8080", "demo@next", "/x"),
        ("/apps/demo%40next/x", "whatever.example", "demo@next", "/x"),
        ("http://demo.localhost/x", "ignored.example", "demo", "/x"),
    ],
)
async def test_a_deployment_is_found_by_host_and_by_path(
    stage: Stage, sandbox: Sandbox, path: str, host: str, deployment: str, seen: str
) -> None:
    await stage.publish([route("/x")], sandbox.lanes)
    await stage.publish([route("/x")], sandbox.lanes, deployment="demo@next")
    assert (await stage.ask("GET", path, host=host)).status == 200
    (request,) = sandbox.requests
    assert request["context"]["deployment"] == deployment
    assert request["requestData"]["httpDetails"]["path"] == seen
    mode = request["context"]["applicationInfo"]["deploymentMode"]
    assert mode == ("staging" if "@" in deployment else "production")


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/", "none.localhost"),
        ("/", "a.demo.localhost"),
        ("/apps/none/", "localhost"),
        ("/apps/", "localhost"),
    ],
)
async def test_an_app_that_is_not_there(stage: Stage, sandbox: Sandbox, path: str, host: str) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    response = await stage.ask("GET", path, host=host)
    assert (response.status, response.json()["code"]) == (404, "APP_NOT_FOUND")
    assert response["Content-Type"] == "application/problem+json"


async def test_the_path_of_an_app_gets_its_slash(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    response = await stage.ask("GET", "/apps/demo?a=b", host="localhost")
    assert (response.status, response["Location"]) == (308, "/apps/demo/?a=b")


async def test_methods_of_a_path(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/x", "GET", "POST"), route("/y", "OPTIONS", component="y")], sandbox.lanes)
    refused = await stage.ask("DELETE", "/x")
    assert (refused.status, refused["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    told = await stage.ask("OPTIONS", "/x")
    assert (told.status, told["Allow"], told.body) == (204, "GET, HEAD, OPTIONS, POST", b"")
    assert (await stage.ask("OPTIONS", "/y")).json() == {"ok": True}
    assert (await stage.ask("TRACE", "/x")).status == 501
    assert len(sandbox.requests) == 1


async def test_head_runs_the_get_route_and_sends_no_body(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/x")], sandbox.lanes)
    client = await stage.connect()
    client.send(raw("HEAD", "/x") + raw("GET", "/x"))
    head, get = await client.read("HEAD"), await client.read()
    assert head["Content-Length"] == get["Content-Length"] == str(len(get.body))
    assert sandbox.requests[0]["requestData"]["httpDetails"]["method"] == "HEAD"
    await client.close()


async def test_the_other_form_of_a_path_is_told(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/x"), route("/y/", component="y")], sandbox.lanes)
    assert (await stage.ask("GET", "/x/?a=1"))["Location"] == "/x?a=1"
    assert (await stage.ask("GET", "/apps/demo/y", host="localhost"))["Location"] == "/apps/demo/y/"
    assert (await stage.ask("GET", "/z")).json()["code"] == "NOT_FOUND"


async def test_an_encoded_slash_stays_inside_its_parameter(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/f/:name")], sandbox.lanes)
    await stage.ask("GET", "/f/a%2Fb%20c")
    assert sandbox.requests[0]["requestData"]["httpDetails"]["pathParameters"] == {"name": "a/b c"}


async def test_schemas_of_requests(stage: Stage, sandbox: Sandbox) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name"],
    }
    await stage.publish(
        [route("/", "POST", requestSchema="schemas/in.json")],
        sandbox.lanes,
        schemas={"schemas/in.json": schema},
    )
    assert (await stage.ask("POST", "/", body=b'{"name": "x"}')).status == 200
    broken = await stage.ask("POST", "/", body=b'{"name": ')
    assert (broken.status, broken.json()["code"]) == (400, "INVALID_JSON")
    wrong = await stage.ask("POST", "/", body=b'{"age": "old"}')
    assert (wrong.status, wrong.json()["code"]) == (422, "REQUEST_SCHEMA_VIOLATION")
    assert sorted(wrong.json()["errors"], key=lambda error: error["pointer"]) == [
        {"pointer": "", "detail": "'name' is a required property"},
        {"pointer": "/age", "detail": "'old' is not of type 'integer'"},
    ]
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/JSON; charset=utf-8", 200),
        (" application/vnd.api+json ;v=1", 200),
        ("image/x+json", 200),
        # What `curl -d` says, what clients say that were told nothing, and none at all.
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("application/jsonl", 415),
        ("text/plain; x=application/json", 415),
        ("", 415),
    ],
)
async def test_a_body_that_a_schema_is_for_must_say_that_it_is_json(
    stage: Stage, sandbox: Sandbox, kind: str, status: int
) -> None:
    await stage.publish(
        [route("/", "POST", requestSchema="s.json"), route("/any", "POST", component="any")],
        sandbox.lanes,
        schemas={"s.json": {"type": "object"}},
    )
    answer = await stage.ask("POST", "/", ("Content-Type", kind), body=b"{}")
    assert answer.status == status
    assert len(sandbox.requests) == (status == 200)
    if status == 415:
        assert (answer.json()["code"], answer["Accept"]) == ("UNSUPPORTED_MEDIA_TYPE", "application/json")
        assert "`Content-Type: application/json`" in answer.json()["detail"]
        assert "`curl --json`" in answer.json()["detail"]
        # What a header says that is not there.
        bare = raw("POST", "/", ("Content-Type", ""), body=b"{}").replace(b"Content-Type: \r\n", b"")
        client = await stage.connect()
        client.send(bare)
        assert (await client.read()).status == 415
        await client.close()
        # Without a schema the handler decides.
        assert (await stage.ask("POST", "/any", ("Content-Type", kind), body=b"{}")).status == 200


async def test_a_component_that_this_release_cannot_run(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/", handlerType="WORKFLOW", taskDetails={})], sandbox.lanes)
    assert (await stage.ask("GET", "/")).status == 501


async def test_a_suspended_app(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes, suspended=True)
    response = await stage.ask("GET", "/")
    assert (response.status, response.json()["code"], response["Retry-After"]) == (503, "APP_SUSPENDED", "60")
