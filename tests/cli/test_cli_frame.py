"""What all commands share: help at once, `--home` and `--json`, one-line errors, exit codes, plain pipes."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from uhlp_cli.main import COMMANDS, cli
from uhlp_cli.output import clean

HEAVY = ("pydantic", "dulwich", "redis", "rich", "aiohttp", "asyncio", "yaml", "uhlp_state")


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    found = []
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        found += leaves(child, (*path, name))
    return found


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from uhlp_cli.main import main\n"
        "try: main(args=['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Run applications that are declared in Git" in done.stdout
    assert done.stderr.strip() == "[]"


def test_help_names_every_command_and_every_exit_code() -> None:
    text = CliRunner().invoke(cli, ["--help"]).output
    for name, entry in COMMANDS.items():
        assert f"{name} " in text
        assert entry.summary in text
    for code in range(6):
        assert f"    {code}  " in text


@pytest.mark.parametrize(("path", "command"), leaves(cli), ids=lambda value: str(value)[:40])
def test_every_command_has_help_and_the_shared_options(path: tuple[str, ...], command: click.Command) -> None:
    names = {name for option in command.params for name in option.opts}
    assert {"--home", "--json"} <= names
    assert command.help
    assert CliRunner().invoke(cli, [*path, "--help"]).exit_code == 0


def test_an_expected_error_is_one_line_that_says_what_to_do(uhlp) -> None:
    result = uhlp("logs", "nobody", code=1)
    assert result.stdout == ""
    assert result.stderr == (
        f"error: there is no app 'nobody' in {uhlp.home.root}; apps: none yet: "
        "`uhlp app create NAME` makes one\n"
    )


def test_an_error_is_json_where_json_was_asked_for(uhlp) -> None:
    document = uhlp.json("logs", "nobody", code=1)
    assert document["error"]["code"] == "APP_NOT_FOUND"
    assert "nobody" in document["error"]["message"]


def test_a_wrong_setting_is_a_usage_error_that_names_its_origin(uhlp) -> None:
    uhlp.home.root.mkdir()
    uhlp.home.config.write_text("port: 99999\n")
    result = uhlp("app", "list", code=2)
    assert str(uhlp.home.config) in result.stderr
    assert "port" in result.stderr


def test_an_unknown_command_and_an_unknown_option_are_usage_errors(uhlp) -> None:
    assert "No such command 'frobnicate'" in CliRunner().invoke(cli, ["frobnicate"]).stderr
    assert CliRunner().invoke(cli, ["frobnicate"]).exit_code == 2
    uhlp("app", "list", "--frobnicate", code=2)


def test_the_variable_names_the_home(uhlp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UHLP_HOME", str(uhlp.home.root))
    result = CliRunner().invoke(cli, ["app", "list"])
    assert f"No apps in {uhlp.home.root} yet" in result.stderr


@pytest.mark.parametrize(
    "line", ["--home {0} --json app list", "app --json --home {0} list", "--json app list --home {0}"]
)
def test_the_shared_options_may_stand_before_the_command(uhlp, line: str) -> None:
    found = CliRunner().invoke(cli, line.format(uhlp.home.root).split())
    assert (found.exit_code, json.loads(found.stdout)) == (0, {"apps": []})


def test_the_home_nearest_to_the_command_counts(uhlp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UHLP_HOME", "/nowhere/by-variable")
    before = CliRunner().invoke(cli, ["--home", str(uhlp.home.root), "app", "list"])
    assert f"No apps in {uhlp.home.root} yet" in before.stderr
    both = CliRunner().invoke(
        cli, ["--home", "/nowhere/before", "app", "list", "--home", str(uhlp.home.root)]
    )
    assert f"No apps in {uhlp.home.root} yet" in both.stderr


def test_a_folder_that_is_closed_to_us_is_one_line(uhlp, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(uhlp.home.root))

    monkeypatch.setattr(Path, "mkdir", refuse)
    result = uhlp("app", "create", "hello", code=1)
    assert f"{uhlp.home.root}: permission denied" in result.stderr


def test_what_apps_write_cannot_control_the_terminal() -> None:
    attack = "\x1b]0;title\x07 \x1b[2J \x9b31m \r erased\x08"
    assert clean(attack) == "\\x1b]0;title\\x07 \\x1b[2J \\x9b31m \\r erased\\x08"
    assert clean("tab\tand\nline stay, ümlauts too") == "tab\tand\nline stay, ümlauts too"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shell_code(uhlp, shell: str) -> None:
    script = uhlp("completion", shell).stdout
    assert "_UHLP_COMPLETE" in script
    assert uhlp.json("completion", shell) == {"shell": shell, "script": script.removesuffix("\n")}


def test_completion_completes_commands(uhlp) -> None:
    environment = {"_UHLP_COMPLETE": "bash_complete", "COMP_WORDS": "uhlp app cr", "COMP_CWORD": "2"}
    done = CliRunner().invoke(cli, [], env=environment, prog_name="uhlp")
    assert done.output.split() == ["plain,create"]


def test_a_pipe_gets_tab_separated_lines_without_colour(uhlp) -> None:
    uhlp("app", "create", "hello")
    cells = uhlp("app", "list").stdout.rstrip("\n").split("\t")
    assert cells[0] == "hello"
    assert len(cells) == 5
    assert "\x1b" not in "".join(cells)


def test_the_document_of_one_command_is_one_document(uhlp) -> None:
    assert json.loads(uhlp("app", "list", "--json").stdout) == {"apps": []}
