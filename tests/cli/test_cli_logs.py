"""`uhlp logs`: the end of the file, filters, following through rotation and truncation, a safe terminal."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from support.waiting import wait_until
from uhlp_cli import log_lines
from uhlp_cli.log_lines import Filter


def entry(message: str, **fields: Any) -> bytes:
    return json.dumps({"ts": 1_700_000_000.0, "level": "info", "message": message, **fields}).encode() + b"\n"


def messages(found: list[dict[str, Any]]) -> list[str]:
    return [fields["message"] for fields in found]


class Follower:
    """Follows a file in a thread and keeps what it was given."""

    def __init__(self, path: Path, position: int = 0) -> None:
        self.messages: list[str] = []
        Thread(target=self._run, args=(log_lines.follow(path, position, Filter()),), daemon=True).start()

    def _run(self, lines: Iterator[dict[str, Any]]) -> None:
        for fields in lines:
            self.messages.append(fields["message"])

    def expect(self, *messages: str) -> None:
        wait_until(lambda: len(self.messages) >= len(messages), "the lines are shown")
        assert self.messages == list(messages)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(log_lines, "POLL_SECONDS", 0.01)
    return tmp_path / "app.log"


def test_the_last_lines_reach_back_into_the_rotated_file(path: Path) -> None:
    path.with_name("app.log.1").write_bytes(entry("one") + entry("two"))
    path.write_bytes(entry("three") + b'{"message": "unfini')
    found, position = log_lines.last(path, 2, Filter())
    assert messages(found) == ["two", "three"]
    assert position == len(entry("three"))


def test_no_file_has_no_lines(path: Path) -> None:
    assert log_lines.last(path, 10, Filter()) == ([], 0)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(component="greet"), ["a", "c"]),
        (Filter(request_id="r2"), ["b"]),
        (Filter(pool="main"), ["a", "b"]),
        (Filter(pool="main", instance="i2"), ["b"]),
        (Filter(level="warning"), ["b", "c"]),
        (Filter(component="greet", level="error"), ["c"]),
        (Filter(), ["a", "b", "c", "no json"]),
    ],
)
def test_filters(path: Path, wanted: Filter, expected: list[str]) -> None:
    path.write_bytes(
        entry("a", component="greet", requestId="r1", pool="main", instance="i1")
        + entry("b", component="stats", requestId="r2", level="warning", pool="main", instance="i2")
        + entry("c", component="greet", requestId="r3", level="error")
        + b"no json\n"
    )
    assert messages(log_lines.last(path, 10, wanted)[0]) == expected


def test_following_waits_for_whole_lines(path: Path) -> None:
    path.write_bytes(entry("old"))
    follower = Follower(path, len(entry("old")))
    with path.open("ab") as file:
        file.write(entry("new")[:-5])
        file.flush()
        file.write(entry("new")[-5:])
    follower.expect("new")


def test_following_goes_on_after_a_rotation_and_loses_no_line(path: Path) -> None:
    path.write_bytes(entry("one"))
    follower = Follower(path)
    follower.expect("one")
    with path.open("ab") as file:
        file.write(entry("two"))
    path.rename(path.with_name("app.log.1"))
    path.write_bytes(entry("three"))
    follower.expect("one", "two", "three")


def test_following_goes_on_where_the_file_is_gone_as_it_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(entry("one"))
    opened, gone = Path.open, [path.with_name("gone")]

    def just_gone(self: Path, *arguments: Any) -> Any:
        return opened(gone.pop() if self == path and gone else self, *arguments)

    monkeypatch.setattr(Path, "open", just_gone)
    Follower(path, len(entry("one"))).expect("one")


def test_following_goes_on_after_a_truncation(path: Path) -> None:
    path.write_bytes(entry("one") + entry("two"))
    follower = Follower(path)
    follower.expect("one", "two")
    path.write_bytes(entry("3"))
    follower.expect("one", "two", "3")


def test_following_waits_for_a_file_that_is_not_there_yet(path: Path) -> None:
    follower = Follower(path)
    path.write_bytes(entry("first"))
    follower.expect("first")


def test_a_line_is_readable_and_cannot_control_the_terminal() -> None:
    text = log_lines.readable(
        {
            "ts": 1_700_000_000.0,
            "level": "error",
            "stream": "stderr",
            "app": "hello",
            "deployment": "hello",
            "component": "greet",
            "commit": "a" * 40,
            "requestId": "r1",
            "message": "first \x1b[2J\nsecond",
            "pool": "python",
        }
    )
    assert text.endswith("error   greet  first \\x1b[2J\n    second  commit=aaaaaaa request=r1")
    assert text.startswith("2023-11-1")


@pytest.mark.parametrize(
    "fields", [{}, {"ts": "never", "level": 7, "message": None}, {"ts": [], "component": {}}]
)
def test_odd_lines_are_shown_somehow(fields: dict[str, Any]) -> None:
    assert log_lines.readable(fields)


def test_the_command_filters_and_prints(uhlp, hello) -> None:
    log = uhlp.home.app_log("hello")
    log.parent.mkdir()
    log.write_bytes(entry("kept", component="greet") + entry("dropped", component="stats"))
    assert "greet  kept" in uhlp("logs", "hello", "--component", "greet").stdout
    lines = uhlp("logs", "hello", "--component", "greet", "--json").stdout.splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["kept"]
    assert uhlp("logs", "hello", "-n", "0").stdout == ""


def test_following_ends_cleanly_when_interrupted(uhlp, hello) -> None:
    log = uhlp.home.app_log("hello")
    log.parent.mkdir()
    log.write_bytes(entry("first"))
    command = [sys.executable, "-m", "uhlp_cli", "logs", "hello", "-f", "--home", str(uhlp.home.root)]
    # Whoever runs the tests in the background of a script has them ignore the signal.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stdout.readline().rstrip().endswith("first")
        with log.open("ab") as file:  # Not anew: for a moment it would be empty.
            file.write(entry("second"))
        assert following.stdout.readline().rstrip().endswith("second")
        following.send_signal(signal.SIGINT)
        assert (following.wait(10), following.stderr.read()) == (0, "")
