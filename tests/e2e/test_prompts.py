"""An app that is a prompt and nothing else: pushed, live, asked, and refused with file and line."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from e2e.platform_under_test import CANARY, Platform

FILES = {
    "state/app_definition.yaml": "appId: asks\nsandboxPools: {pools: [{poolName: main}]}\n",
    "state/component_registry.yaml": (
        "components:\n"
        "  - componentId: root\n    handlerType: LLM\n    targetPoolName: main\n"
        "    taskDetails: {prompt_template: prompts/p.yaml}\n"
        "    routeMatcher: {pathPattern: /, methods: [POST]}\n"
    ),
    "state/prompts/p.yaml": "template: |\n  How is {{ input.name }}?\n",
}


def test_a_prompt_is_served_and_a_broken_one_refused(platform: Platform) -> None:
    clone = platform.create("asks", FILES)
    headers = {"Content-Type": "application/json"}

    def ask(body: str) -> tuple[int, str]:
        answer = platform.request("POST", "/", app="asks", body=body, headers=headers)
        return answer.status, answer.json["code"]

    assert ask("{}") == (500, "PROMPT_FAILED")
    # It is rendered and asked; that this app names no LLM is the tool's to say.
    status, code = ask('{"name": "Ada"}')
    assert (status, code.partition("_")[0]) == (503, "LLM")
    clone.commit({"state/prompts/p.yaml": "template: |\n  Hello\n  {{ inptu }}\n"})
    pushed = clone.push()
    assert pushed.code == 1
    assert "state/prompts/p.yaml:3:3 TEMPLATE_UNKNOWN_NAME" in pushed.err
    assert "did you mean 'input'?" in pushed.err
    clone.git("reset", "--quiet", "--hard", "HEAD~1")
    clone.deploy({"state/prompts/p.yaml": "template: Hello\n"})
    assert ask("{}")[0] == 503


class Telltale(BaseHTTPRequestHandler):
    """A provider that answers, or refuses, and in both cases repeats the credential that it was sent."""

    credentials: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        sent = self.headers["Authorization"]
        self.credentials.append(sent)
        if "fail" in body["messages"][-1]["content"]:
            status, document = 401, {"error": {"message": f"no such key: {sent}", "code": sent}}
        else:
            message = {"role": "assistant", "content": "fine"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            status, document = 200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m",
                                     "choices": [choice], "usage": usage}  # fmt: skip
        answer = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Echo", sent)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


def test_a_real_provider_gets_the_key_and_nobody_else_does(
    fresh_platform: Callable[..., Platform],
) -> None:
    """What the platform wrote meanwhile is searched when it ends."""
    Telltale.credentials.clear()
    provider = ThreadingHTTPServer(("127.0.0.1", 0), Telltale)
    thread = threading.Thread(target=provider.serve_forever)
    thread.start()
    try:
        platform = fresh_platform(UHLP_PRIVATE_ADDRESSES="true")
        platform.start()
        llm = (
            "llm:\n  model: own/m\n  providers:\n"
            f"    own: {{type: openai, baseUrl: 'http://127.0.0.1:{provider.server_port}/v1', "
            "apiKey: secret:canary}\n"
        )
        files = {**FILES, "state/app_definition.yaml": FILES["state/app_definition.yaml"] + llm}
        platform.create("asks", files)
        headers = {"Content-Type": "application/json"}
        answers = [
            platform.request("POST", "/", app="asks", body=f'{{"name": "{name}"}}', headers=headers)
            for name in ("Ada", "fail")
        ]
        assert [answer.status for answer in answers] == [200, 503]
        assert answers[0].json == "fine"
        assert Telltale.credentials[0] == f"Bearer {CANARY}"
        for answer in answers:
            assert CANARY not in f"{answer.headers}{answer.body}"
    finally:
        provider.shutdown()
        thread.join()
        provider.server_close()
