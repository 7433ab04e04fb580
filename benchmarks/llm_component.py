"""What an LLM component adds: the whole way through gateway, sandbox and MCP against the provider alone.

All ask the same fake provider, which speaks the OpenAI API on loopback and answers at once: the component, a
plain HTTP client, and the official SDK, which is what a program without UHLP would use.
"""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai

from benchmarks.measuring import Row, added, interleaved, quietest, running_platform
from e2e.platform_under_test import Platform

BATCHES = 20
ROUNDS = 50
GOAL_MS = 3.0
APP = "asking"

ANSWER = json.dumps(
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 0,
        "model": "fake",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "well"}}
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
    }
).encode()


class _Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def provider() -> Iterator[int]:
    """The port of a provider that answers at once."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


def files(port: int) -> dict[str, str]:
    """An app whose one component asks the provider."""
    return {
        "state/app_definition.yaml": (
            f"appId: {APP}\nsandboxPools: {{pools: [{{poolName: main}}]}}\n"
            f"llm:\n  model: fake\n  providers:\n"
            f"    fake: {{type: openai, baseUrl: 'http://127.0.0.1:{port}/v1'}}\n"
        ),
        "state/component_registry.yaml": (
            "components:\n"
            "  - componentId: root\n    handlerType: LLM\n    targetPoolName: main\n"
            "    taskDetails: {prompt_template: prompts/ask.yaml}\n"
            "    routeMatcher: {pathPattern: /, methods: [POST]}\n"
        ),
        "state/prompts/ask.yaml": "template: 'How is {{ input.name }}?'\n",
    }


def rows() -> list[Row]:
    with provider() as port, running_platform(UHLP_PRIVATE_ADDRESSES="true") as platform:
        platform.create(APP, files(port))
        body = json.dumps({"messages": [{"role": "user", "content": "How is Ada?"}]})
        direct = _asking(port, "/v1/chat/completions", "127.0.0.1", body)
        component = _through(platform)
        with openai.OpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0) as client:
            works = (component, direct, _with_sdk(client))
            batches = [interleaved(ROUNDS, *works) for _ in range(BATCHES)]
    through, alone, by_sdk = quietest(batches, reference=1)
    what = "LLM component through the whole way, added at the median to {} asking the provider"
    return [
        added(what.format("a plain HTTP client"), through, alone, GOAL_MS),
        added(what.format("the official SDK"), through, by_sdk, GOAL_MS),
    ]


def _with_sdk(client: openai.OpenAI) -> Callable[[], None]:
    def ask() -> None:
        client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "How is Ada?"}], max_tokens=100
        )

    return ask


def _through(platform: Platform) -> Callable[[], None]:
    port = platform.state["port"]
    return _asking(port, "/", f"{APP}.localhost:{port}", json.dumps({"name": "Ada"}))


def _asking(port: int, path: str, host: str, body: str) -> Callable[[], None]:
    """One request over a kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Host": host, "Content-Type": "application/json", "Accept": "application/json"}

    def ask() -> None:
        connection.request("POST", path, body=body, headers=headers)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer

    return ask
