"""`uhlp call` against a real HTTP server in the gateway's place."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass
class Gateway:
    """Remembers what it was asked, answers what it was told to."""

    port: int = 0
    status: int = 200
    body: bytes = b'{"id":1}'
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def gateway(uhlp) -> Iterator[Gateway]:
    told = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told.asked.append((self.command, self.path, dict(self.headers), body))
            self.send_response(told.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.port = server.server_port
        uhlp.home.create()
        state = {
            "pid": 1,
            "gateway": f"http://127.0.0.1:{told.port}",
            "control": "http://127.0.0.1:1",
            "mcp": "http://127.0.0.1:1/mcp",
            "domain": "localhost",
            "port": told.port,
            "daemons": {},
        }
        (uhlp.home.run / "up.json").write_text(json.dumps(state))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield told
        server.shutdown()


def test_the_body_goes_to_standard_output_as_it_is(uhlp, gateway: Gateway) -> None:
    gateway.body = b'{"b":1,  "a":2}'
    result = uhlp("call", "notes", "get", "/api/notes?before=3&q=a b")
    assert (result.stdout, result.stderr) == ('{"b":1,  "a":2}', "")
    assert [asked[:2] for asked in gateway.asked] == [("GET", "/apps/notes/api/notes?before=3&q=a%20b")]


def test_status_and_headers_go_to_standard_error(uhlp, gateway: Gateway) -> None:
    result = uhlp("call", "notes", "GET", "/", "-i")
    assert result.stdout == '{"id":1}'
    assert result.stderr.startswith("200 OK\n")
    assert "Content-Type: application/json\n" in result.stderr


def test_bodies_and_headers(uhlp, gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text('{"title": "file"}')
    uhlp("call", "notes", "POST", "/api/notes", "-d", '{"title": "text"}', "-H", "X-Request-ID: r1")
    uhlp("call", "notes", "POST", "/api/notes", "-d", f"@{tmp_path}/note.json")
    uhlp("call", "notes", "PUT", "/api/notes/1", "-d", "-", "-H", "content-type: text/plain", stdin="plain")
    sent = [(asked[2].get("Content-Type", asked[2].get("content-type")), asked[3]) for asked in gateway.asked]
    assert sent == [
        ("application/json", b'{"title": "text"}'),
        ("application/json", b'{"title": "file"}'),
        ("text/plain", b"plain"),
    ]
    assert gateway.asked[0][2]["X-Request-ID"] == "r1"


def test_a_preview_has_a_path_of_its_own(uhlp, gateway: Gateway) -> None:
    uhlp("call", "notes", "GET", "/api", "--preview", "dark")
    assert gateway.asked[0][1] == "/apps/notes@dark/api"


@pytest.mark.parametrize(("status", "code"), [(200, 0), (304, 0), (404, 4), (500, 5), (503, 5)])
def test_the_exit_code_tells_the_class_of_the_status(uhlp, gateway: Gateway, status: int, code: int) -> None:
    gateway.status = status
    gateway.body = b"" if status == 304 else gateway.body
    assert uhlp("call", "notes", "GET", "/", code=code).stdout == gateway.body.decode()


def test_as_json(uhlp, gateway: Gateway) -> None:
    gateway.status = 404
    document = uhlp.json("call", "notes", "GET", "/", code=4)
    assert (document["status"], document["body"]) == (404, {"id": 1})
    assert document["headers"]["Content-Type"] == "application/json"


def test_no_gateway_is_not_running(uhlp) -> None:
    uhlp.home.root.mkdir()
    uhlp.home.config.write_text("port: 1\n")
    assert "uhlp up" in uhlp("call", "notes", "GET", "/", code=3).stderr


@pytest.mark.parametrize(
    "arguments",
    [("-H", "no colon"), ("-H", ": x"), ("-d", "@/nowhere"), ("-H", "X: a\r\nY: b"), ("--preview", "../x")],
)
def test_what_cannot_be_sent_is_a_usage_error(uhlp, gateway: Gateway, arguments: tuple[str, ...]) -> None:
    uhlp("call", "notes", "GET", "/", *arguments, code=2)
    assert gateway.asked == []


@pytest.mark.parametrize("method", ["GET /x HTTP/1.1\r\nX: y", "", "G T"])
def test_a_method_cannot_smuggle_a_request(uhlp, gateway: Gateway, method: str) -> None:
    uhlp("call", "notes", method, "/", code=2)
    assert gateway.asked == []
