"""What a handler gets of an HTTP request, and what a client gets of its result (specification 2.4)."""

from gateway.far_end import Sandbox
from gateway.stage import Stage, route


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
    assert request["context"] == {
        "appId": "demo",
        "componentId": "hello",
        "mcp_endpoint": f"unix:{sandbox.folder}/mcp.sock",
        "stateConfig": {
            "type": "mcp_tool",
            "readTool": "core.state.getDefinitionFileContent",
            "writeTool": "core.state.applyStateDiff",
        },
        "configuration": {"greeting": "hi"},
        "applicationInfo": {"deploymentMode": "production"},
        "deployment": "demo",
        "revision": "c" * 40,
        "tree": "d" * 40,
        "taskDetails": {"script": "handler.py", "function": "handle"},
        "expectedResultFormat": "generic",
        "timeoutMs": 30000,
    }
