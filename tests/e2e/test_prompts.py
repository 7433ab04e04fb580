"""An app that is a prompt and nothing else: pushed, live, asked, and refused with file and line."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from e2e.platform_under_test import CANARY, ON_ONE_BACKEND, Platform
from support.waiting import wait_until

APP_FILE = "state/app_definition.yaml"
EXAMPLE = Path(__file__).parents[2] / "state_repos" / "examples" / "summariser"
JSON = {"Content-Type": "application/json"}

DEFINITION = "appId: asks\nsandboxPools: {pools: [{poolName: main}]}\n"
FILES = {
    APP_FILE: DEFINITION + "llm: {providers: {own: {type: openai, apiKey: 'secret:unset'}}, model: own/m}\n",
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

    def ask(body: str) -> tuple[int, str]:
        answer = platform.request("POST", "/", app="asks", body=body, headers=JSON)
        return answer.status, answer.json["code"]

    assert ask("{}") == (500, "PROMPT_FAILED")
    # It is rendered and asked; that the secret of the app's LLM is not set is the tool's to say.
    assert ask('{"name": "Ada"}') == (503, "SECRET_MISSING")
    clone.commit({"state/prompts/p.yaml": "template: |\n  Hello\n  {{ inptu }}\n"})
    pushed = clone.push()
    assert pushed.code == 1
    assert "state/prompts/p.yaml:3:3 TEMPLATE_UNKNOWN_NAME" in pushed.err
    assert "did you mean 'input'?" in pushed.err
    clone.git("reset", "--quiet", "--hard", "HEAD~1")
    clone.deploy({"state/prompts/p.yaml": "template: Hello\n"})
    assert ask("{}")[0] == 503


SUMMARY = {"main_reason": "Billing", "sentiment": "negative", "action_items": [], "summary": "Billed twice."}


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
            content = json.dumps(SUMMARY) if "response_format" in body else "fine"
            message = {"role": "assistant", "content": content}
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


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The address of a provider on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Telltale)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def calling(isolation: str) -> Iterator[Platform]:
    """A platform that may call it. What it wrote meanwhile is searched for secrets when it ends."""
    platform = Platform(settings={"UHLP_ISOLATION": isolation, "UHLP_PRIVATE_ADDRESSES": "true"})
    try:
        platform.start()
        yield platform
    finally:
        platform.close()


def test_a_real_provider_gets_the_key_and_nobody_else_does(calling: Platform, provider: str) -> None:
    Telltale.credentials.clear()
    own = f"own: {{type: openai, baseUrl: '{provider}', apiKey: secret:canary}}"
    llm = f"llm:\n  model: own/m\n  providers:\n    {own}\n"
    calling.create("asks", {**FILES, APP_FILE: DEFINITION + llm})
    answers = [
        calling.request("POST", "/", app="asks", body=f'{{"name": "{name}"}}', headers=JSON)
        for name in ("Ada", "fail")
    ]
    assert [answer.status for answer in answers] == [200, 503]
    assert answers[0].json == "fine"
    assert Telltale.credentials[0] == f"Bearer {CANARY}"
    for answer in answers:
        assert CANARY not in f"{answer.headers}{answer.body}"


def test_an_example_asks_a_real_model_once_it_has_a_key(calling: Platform, provider: str) -> None:
    Telltale.credentials.clear()
    files = {
        str(path.relative_to(EXAMPLE)): path.read_text()
        for path in EXAMPLE.rglob("*")
        if path.is_file() and path.relative_to(EXAMPLE).parts[0] == "state"
    }
    key = "      apiKey: secret:openai\n"
    assert key in files[APP_FILE]
    files[APP_FILE] = files[APP_FILE].replace(key, f"{key}      baseUrl: '{provider}'\n")
    calling.create("summariser", files)

    def ask() -> tuple[str | None, str]:
        body = '{"interaction_transcript": "I was billed twice."}'
        answer = calling.request("POST", "/api/summaries", app="summariser", body=body, headers=JSON)
        assert answer.status == 200, answer.body
        return answer.headers["X-LLM-Scripted"], answer.json["main_reason"]

    assert ask() == ("true", "Billing query")
    assert Telltale.credentials == []
    stored = calling.uhlp("secrets", "set", "openai", "--app", "summariser", given=CANARY)
    assert stored.code == 0, stored.err
    wait_until(lambda: ask() == (None, "Billing"), "the model is asked")
    assert Telltale.credentials == [f"Bearer {CANARY}"]


SCRIPT = """\
llm:
  model: openai/gpt-4o
  providers: {openai: {type: scripted, file: llm/rules.yaml}}
  retries: {max: 0}
"""
RULES = """\
rules:
  - {match: {contains: refuse}, replies: [{fail: refused}]}
  - {match: {contains: break}, replies: [{chunks: [Hal], fail: cut}]}
  - replies: [{text: Fine.}]
"""


@ON_ONE_BACKEND
def test_what_a_script_says_is_never_taken_for_a_model_s(platform: Platform) -> None:
    registry = "state/component_registry.yaml"
    streaming = "routeMatcher: {pathPattern: /, methods: [POST]}\n    stream: true\n"
    files = {
        **FILES,
        APP_FILE: DEFINITION.replace("asks", "scripted") + SCRIPT,
        registry: FILES[registry].replace("routeMatcher: {pathPattern: /, methods: [POST]}\n", streaming),
        "state/llm/rules.yaml": RULES,
        "state/tools/ask.yaml": "name: ask\ndescription: Asks.\ncomponent: root\n",
    }
    platform.create("scripted", files)

    def ask(name: str, accept: str) -> tuple[int, str | None, str]:
        body = json.dumps({"name": name})
        headers = {**JSON, "Accept": accept}
        answer = platform.request("POST", "/", app="scripted", body=body, headers=headers)
        return answer.status, answer.headers["X-LLM-Scripted"], answer.body.decode()

    assert ask("Ada", "application/json") == (200, "true", '"Fine."')
    status, header, events = ask("Ada", "text/event-stream")
    assert (status, header) == (200, "true")
    assert events.startswith('data: {"delta": "Fine."}\n\nevent: result\n')
    status, header, events = ask("break", "text/event-stream")
    assert (status, header) == (200, "true")
    assert json.loads(events.partition("event: error\ndata: ")[2])["scripted"] is True
    for accept in ("application/json", "text/event-stream"):
        status, header, body = ask("refuse", accept)
        assert (status, header, json.loads(body)["scripted"]) == (422, "true", True)
    told = platform.tool("scripted", "app.ask", name="Ada")
    assert (told["structuredContent"], told["_meta"]) == ({"result": "Fine."}, {"uhlp/scripted": True})
    told = platform.tool("scripted", "app.ask", name="refuse")
    assert told["_meta"] == {"uhlp/error": {"code": "LLM_REFUSED", "scripted": True}}
    used = platform.uhlp("llm", "usage", "scripted", "--json").json["usage"]
    [model] = [one for one in used if one["kind"] == "model"]
    assert (model["name"], model["attempts"], model["scripted"]) == ("openai/gpt-4o", 7, 7)
