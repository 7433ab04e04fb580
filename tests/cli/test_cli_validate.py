"""`uhlp validate`, `uhlp schema export` and `uhlp doctor`."""

import json
import socket
from pathlib import Path

import pytest

from uhlp_cli import health
from uhlp_cli.health import Verdict
from uhlp_state.schema_export import export_schemas
from uhlp_state.templates import render_template


@pytest.fixture
def app(tmp_path: Path) -> Path:
    for path, content in render_template("hello", "shop").items():
        (tmp_path / "app" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / path).write_bytes(content)
    return tmp_path / "app"


def test_a_valid_folder(uhlp, app: Path) -> None:
    assert uhlp("validate", str(app)).stdout == "shop: valid\n"


def test_every_problem_is_listed_with_place_and_remedy(uhlp, app: Path) -> None:
    definition = app / "state/app_definition.yaml"
    definition.write_text(definition.read_text() + "colour: red\nflavour: sweet\n")
    line = len(definition.read_text().splitlines())
    document = uhlp.json("validate", str(app), code=1)
    assert document["valid"] is False
    assert [(one["file"], one["line"], one["code"]) for one in document["problems"]] == [
        ("state/app_definition.yaml", line - 1, "UNKNOWN_KEY"),
        ("state/app_definition.yaml", line, "UNKNOWN_KEY"),
    ]
    text = uhlp("validate", str(app), code=1).stdout
    assert f"state/app_definition.yaml:{line}:1 UNKNOWN_KEY" in text
    assert "fix: " in text
    assert text.endswith("2 problems\n")


def test_it_can_be_checked_as_another_app(uhlp, app: Path) -> None:
    document = uhlp.json("validate", str(app), "--app", "other", code=1)
    assert [one["code"] for one in document["problems"]] == ["APP_ID_MISMATCH"]


def test_the_platforms_rules_count(uhlp, app: Path) -> None:
    from uhlp_cli import new_app

    uhlp.home.create()
    files = {"state/platform.yaml": b"allowedImages: [other/image]\n"}
    new_app.create_with_commit(uhlp.settings, "platform", files, "Only one image")
    definition = app / "state/app_definition.yaml"
    definition.write_text(
        definition.read_text().replace("executionMode", "dockerImage: evil/image\n      executionMode")
    )
    assert [one["code"] for one in uhlp.json("validate", str(app), code=1)["problems"]] == [
        "IMAGE_NOT_ALLOWED"
    ]


@pytest.mark.parametrize("content", [b"[", b"[" * 100_000, b"- list", b"\xff", b""])
def test_a_definition_that_cannot_be_read_is_a_problem_and_no_crash(uhlp, app: Path, content: bytes) -> None:
    (app / "state/app_definition.yaml").write_bytes(content)
    assert uhlp.json("validate", str(app), code=1)["valid"] is False


def test_no_folder_is_a_usage_error(uhlp, tmp_path: Path) -> None:
    uhlp("validate", str(tmp_path / "nowhere"), code=2)


def test_schemas_are_written_for_editors(uhlp, tmp_path: Path) -> None:
    document = uhlp.json("schema", "export", str(tmp_path / "schemas"))
    assert {
        Path(path).name: json.loads(Path(path).read_text()) for path in document["files"]
    } == export_schemas()


@pytest.fixture
def any_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the usual ones, which a platform that runs here may have."""
    for name in ("UHLP_PORT", "UHLP_CONTROL_PORT", "UHLP_MCP_PORT"):
        monkeypatch.setenv(name, "0")


@pytest.mark.usefixtures("any_ports")
def test_doctor_says_what_each_check_found(uhlp) -> None:
    document = uhlp.json("doctor")
    verdicts = {check["name"]: check["verdict"] for check in document["checks"]}
    assert document["ok"] is True
    assert (verdicts["python"], verdicts["git"], verdicts["redis-server"]) == ("ok", "ok", "ok")
    assert verdicts["daemons"] == "warn"
    assert all(check["remedy"] for check in document["checks"] if check["verdict"] != "ok")


def test_doctor_fails_on_a_port_that_is_taken(uhlp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        uhlp.home.root.mkdir(mode=0o700)
        uhlp.home.config.write_text(f"port: {taken.getsockname()[1]}\ncontrol_port: 0\n")
        result = uhlp("doctor", code=1)
    assert "fail  gateway" in result.stdout
    assert "choose another port (setting `port`)" in result.stdout


@pytest.mark.usefixtures("any_ports")
def test_doctor_notices_a_home_that_others_may_enter(uhlp) -> None:
    uhlp.home.root.mkdir(mode=0o755)
    found = {check["name"]: check for check in uhlp.json("doctor")["checks"]}["home"]
    assert (found["verdict"], found["remedy"]) == ("warn", f"chmod 700 {uhlp.home.root}")


def test_doctor_notices_a_supervisor_that_was_killed(uhlp) -> None:
    uhlp.home.create()
    state = {
        "pid": 2**30,
        "daemons": {"gateway": 2**30},
        "gateway": "http://g",
        "control": "http://c",
        "mcp": "http://m",
    }
    (uhlp.home.run / "up.json").write_text(json.dumps(state))
    checks = {check.name: check for check in health.check_all(uhlp.settings)}
    assert checks["daemons"].verdict == Verdict.FAIL
    assert "uhlp up" in checks["daemons"].remedy


def test_doctor_sees_a_redis_that_runs(uhlp, store) -> None:
    assert {check.name: check.found for check in health.check_all(uhlp.settings)}["redis"] == "answers"
