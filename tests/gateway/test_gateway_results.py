"""What a client gets of a handler's result: responses, errors, and results that cannot be sent."""

from typing import Any

import pytest

from gateway.far_end import Answer, Sandbox, http_result
from gateway.stage import Stage, raw, route


async def test_an_http_result_is_sent_as_it_is(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    sandbox.script = lambda _: http_result(
        201, "grüße", Location="/x", Set_Cookie=["a=1", "b=2"], Content_Length="999", Connection="close"
    )
    response = await stage.ask("GET", "/")
    assert (response.status, response.body.decode()) == (201, "grüße")
    assert response.all("Set-Cookie") == ["a=1", "b=2"]
    assert response["Location"] == "/x"
    assert response["Content-Length"] == "7"
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response.all("Connection") == []


async def test_a_body_in_base64(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    data = {"statusCode": 200, "body": "/wA=", "bodyEncoding": "base64"}
    sandbox.script = lambda _: (200, {"resultType": "httpResponse", "data": data})
    response = await stage.ask("GET", "/")
    assert (response.body, response["Content-Type"]) == (b"\xff\x00", "application/octet-stream")


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body(stage: Stage, sandbox: Sandbox, status: int) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    sandbox.script = lambda _: http_result(status, "ignored")
    client = await stage.connect()
    client.send(raw("GET", "/") + raw("GET", "/"))
    assert (await client.read()).status == status
    assert (await client.read()).status == status
    await client.close()


async def test_an_application_error_is_a_problem_document(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/x")], sandbox.lanes)
    data = {"code": "NO_FUNDS", "message": "not enough", "details": {"balance": 1}, "statusCode": 402}
    sandbox.script = lambda _: (200, {"resultType": "error", "data": data})
    response = await stage.ask("GET", "/x?secret=1", ("X-Request-ID", "r1"))
    assert response.status == 402
    assert response["Content-Type"] == "application/problem+json"
    assert response.json() == {
        "type": "about:blank",
        "title": "Payment Required",
        "status": 402,
        "detail": "not enough",
        "instance": "/x",
        "code": "NO_FUNDS",
        "requestId": "r1",
        "details": {"balance": 1},
    }


@pytest.mark.parametrize("given", [None, 200, 99, 600, "x", True])
async def test_an_application_error_is_400_unless_it_says_otherwise(
    stage: Stage, sandbox: Sandbox, given: Any
) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    sandbox.script = lambda _: (200, {"resultType": "error", "data": {"code": "X", "statusCode": given}})
    assert (await stage.ask("GET", "/")).status == 400


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("HANDLER_TIMEOUT", 504),
        ("HANDLER_EXCEPTION", 500),
        ("HANDLER_CRASHED", 500),
        ("OUT_OF_MEMORY", 500),
        ("HANDLER_NOT_FOUND", 500),
    ],
)
async def test_a_failed_handler_is_told_by_its_code_only(
    stage: Stage, sandbox: Sandbox, code: str, status: int
) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    sandbox.script = lambda _: (500, {"error": code, "details": "File /secret/path, line 3"})
    response = await stage.ask("GET", "/")
    assert (response.status, response.json()["code"]) == (status, code)
    assert b"secret" not in response.body


@pytest.mark.parametrize(
    "answer",
    [
        http_result(200, "", Evil="a\r\nSet-Cookie: x=1"),
        http_result(200, "", Evil="a\nb"),
        (200, {"resultType": "httpResponse", "data": {"statusCode": 200, "headers": {"a b": "1"}}}),
        (200, {"resultType": "httpResponse", "data": {"statusCode": 200, "headers": {"a\r\nb": "1"}}}),
        (200, {"resultType": "httpResponse", "data": {"statusCode": 200, "headers": ["a"]}}),
        (200, {"resultType": "httpResponse", "data": {"statusCode": 101}}),
        (200, {"resultType": "httpResponse", "data": {"statusCode": 700}}),
        (200, {"resultType": "httpResponse", "data": {"statusCode": "200"}}),
        (200, {"resultType": "httpResponse", "data": "x"}),
        (
            200,
            {
                "resultType": "httpResponse",
                "data": {"statusCode": 200, "body": "%", "bodyEncoding": "base64"},
            },
        ),
        (200, {"resultType": "unheard of", "data": {}}),
        (200, []),
        (200, b"HTTP/1.1 200 X\r\nContent-Length: 1\r\n\r\n{"),
    ],
)
async def test_a_result_that_cannot_be_sent(stage: Stage, sandbox: Sandbox, answer: Answer) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    sandbox.script = lambda _: answer
    response = await stage.ask("GET", "/")
    assert (response.status, response.json()["code"]) == (502, "BAD_RESULT")
    assert response.all("Set-Cookie") == []
    assert response.all("Evil") == []


async def test_a_result_that_breaks_its_schema_is_not_sent(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish(
        [route("/", responseSchema="schemas/out.json")],
        sandbox.lanes,
        schemas={"schemas/out.json": {"type": "object", "required": ["name"]}},
    )
    sandbox.script = lambda _: (200, {"resultType": "generic", "data": {"secret": 1}})
    response = await stage.ask("GET", "/")
    assert (response.status, response.json()["code"]) == (502, "RESPONSE_SCHEMA_VIOLATION")
    assert b"secret" not in response.body
    sandbox.script = lambda _: (200, {"resultType": "generic", "data": {"name": 1}})
    assert (await stage.ask("GET", "/")).json() == {"name": 1}
