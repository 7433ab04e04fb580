"""The first start of an empty home, as `make run` does it: the examples are there, and they really work."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from e2e.platform_under_test import ON_ONE_BACKEND, Platform
from support.waiting import wait_until

CHROMIUM = shutil.which("chromium")


def test_the_template_greets(first: Platform) -> None:
    assert first.answer("hello") == {"message": "Hello, world!"}
    assert first.answer("hello", "/hello/w%C3%B6rld") == {"message": "Hello, wörld!"}


@ON_ONE_BACKEND
def test_the_platforms_own_repo_is_there_to_be_changed(first: Platform) -> None:
    clone = first.new_clone("platform")
    clone.git("pull", "--quiet", "origin", "main")
    before = (clone.folder / "state/platform.yaml").read_text()
    clone.commit({"state/platform.yaml": f"{before}quotas: {{maxApps: 3}}\n"})
    assert clone.push().code == 0
    full = first.uhlp("app", "create", "another")
    assert full.code == 1
    assert "already has 3 apps" in full.err
    clone.commit({"state/platform.yaml": before})
    assert clone.push().code == 0


def test_notes_are_kept_checked_and_counted(first: Platform) -> None:
    def send(method: str, path: str, text: str | None = None) -> tuple[int, object]:
        answer = first.request(
            method, path, app="notes", body=text, headers={"Content-Type": "application/json"}
        )
        return answer.status, answer.json if answer.body else None

    status, made = send("POST", "/api/notes", '{"title": "Milk", "text": "two litres"}')
    assert status == 201
    assert isinstance(made, dict)
    path = f"/api/notes/{made['id']}"
    status, found = send("GET", path)
    assert (status, found) == (200, made)
    status, problem = send("POST", "/api/notes", '{"text": 5}')
    assert status == 422
    assert isinstance(problem, dict)
    assert problem["code"] == "REQUEST_SCHEMA_VIOLATION"
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # as `curl -d` says
    untyped = first.request("POST", "/api/notes", app="notes", body='{"title": "Milk"}', headers=form)
    assert (untyped.status, untyped.json["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert send("POST", "/api/notes", "{")[0] == 400
    assert send("GET", "/api/notes/999999")[0] == 404
    assert send("DELETE", path)[0] in (200, 204)
    assert send("GET", path)[0] == 404


def test_notes_ask_an_mcp_server_of_their_own(first: Platform) -> None:
    found = first.answer("notes", "/api/clock?timezone=Europe/Berlin")
    assert found["timezone"] == "Europe/Berlin"
    assert datetime.fromisoformat(found["time"]).utcoffset() in (timedelta(hours=1), timedelta(hours=2))
    refused = first.request("GET", "/api/clock?timezone=Mars/X", app="notes")
    assert (refused.status, refused.json["code"]) == (400, "NO_TIME")


def test_a_conversation_is_summarised_without_code(first: Platform) -> None:
    body = '{"interaction_transcript": "I was billed twice."}'
    headers = {"Content-Type": "application/json"}
    answer = first.request("POST", "/api/summaries", app="summariser", body=body, headers=headers)
    assert (answer.status, answer.headers["X-LLM-Scripted"]) == (200, "true")
    assert answer.json["main_reason"] == "Billing query"


def test_an_llm_adds_a_note_with_the_app_s_own_tool(first: Platform) -> None:
    made = first.tool("notes", "app.add_note", title="Bread")["structuredContent"]
    assert first.answer("notes", f"/api/notes/{made['id']}") == made
    refused = first.tool("notes", "app.add_note", title="")
    assert refused["content"][0]["text"].startswith("INVALID_ARGUMENTS: ")


def test_notes_are_not_lost_when_many_write_at_once(first: Platform) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def write(number: int) -> int:
        return first.request(
            "POST",
            "/api/notes",
            app="notes",
            body=f'{{"title": "n{number}", "text": "x"}}',
            headers={"Content-Type": "application/json"},
        ).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(40))) == {201}
    titles, before = [], "/api/notes"
    while before:
        page = first.answer("notes", before)
        titles += [note["title"] for note in page["notes"]]
        before = f"/api/notes?before={page['next']}" if page["next"] else ""
    assert sorted(title for title in titles if title.startswith("n")) == sorted(f"n{n}" for n in range(40))


@ON_ONE_BACKEND
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("by", ["host", "path"])
def test_a_real_browser_shows_the_notes(first: Platform, by: str) -> None:
    made = first.request(
        "POST",
        "/api/notes",
        app="notes",
        body='{"title": "Seen by a browser", "text": "yes"}',
        headers={"Content-Type": "application/json"},
    )
    assert made.status == 201
    port = first.state["port"]
    url = f"http://notes.localhost:{port}/" if by == "host" else f"http://localhost:{port}/apps/notes/"
    with tempfile.TemporaryDirectory(prefix="uc-") as profile:
        done = subprocess.run(
            [
                str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-quic", f"--user-data-dir={profile}", "--virtual-time-budget=5000",
                "--dump-dom", url,
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )  # fmt: skip
    assert "Seen by a browser" in done.stdout, done.stderr[-2000:]


def test_a_second_start_finds_the_examples_and_their_data(fresh_platform: Callable[..., Platform]) -> None:
    platform = fresh_platform()
    platform.start("--json")
    platform.await_examples()
    body = '{"title": "kept", "text": "x"}'
    headers = {"Content-Type": "application/json"}
    assert platform.request("POST", "/api/notes", app="notes", body=body, headers=headers).status == 201
    assert platform.stop() == 0
    platform.start("--json")
    wait_until(
        lambda: platform.request("GET", "/api/notes", app="notes").status == 200, "the notes app serves"
    )
    assert [note["title"] for note in platform.answer("notes", "/api/notes")["notes"]] == ["kept"]


@ON_ONE_BACKEND
def test_two_platforms_cannot_share_a_home(first: Platform) -> None:
    second = first.uhlp("up", "--port", "0")
    assert second.code == 1
    assert "already running" in second.err
