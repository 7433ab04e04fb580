"""What every command shares: `--home`, `--json`, the settings, and errors as one clear line.

Imports nothing heavy: `uhlp --help` and shell completion load this module for every command.
"""

import json
import sys
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhlp_core.errors import InvalidInput, UhlpError, Unavailable

if TYPE_CHECKING:
    from uhlp_core.home import Home
    from uhlp_core.settings import Settings


class ExitCode(IntEnum):
    """The exit codes of every command."""

    OK = 0
    PROBLEM = 1
    USAGE = 2
    NOT_RUNNING = 3
    CLIENT_ERROR = 4
    SERVER_ERROR = 5


EXIT_CODES = """\b
Exit codes:
  0  done
  1  a problem was found, or the command was refused
  2  the command line or a setting is wrong
  3  the platform is not running, or Redis cannot be reached
  4  `uhlp call`: the app answered 4xx
  5  `uhlp call`: the app answered 5xx
"""


_SHARED = ("home_dir", "as_json")
_GIVEN_BEFORE = f"{__name__}.given_before"
"""In a context's `meta`: the shared options that stood before the command's name."""


@dataclass(frozen=True)
class Invocation:
    """The shared options of one command, as its function gets them (`@click.pass_obj`)."""

    home_dir: Path | None
    json: bool
    """Whether standard output is for a program: exactly one JSON document, or one per line."""

    @cached_property
    def settings(self) -> "Settings":
        """Raises InvalidInput, naming where the wrong value came from."""
        from uhlp_core.settings import Settings

        return Settings.load(home_dir=self.home_dir)

    @property
    def home(self) -> "Home":
        return self.settings.home

    def answer(self, document: Any, text: str) -> None:
        """Print the result of a command: the document with `--json`, else the text."""
        click.echo(json.dumps(document, ensure_ascii=False, indent=2) if self.json else text)

    def report(self, error: UhlpError, **more: Any) -> None:
        """Print an error; `more` are fields beside `error` in the JSON document."""
        if self.json:
            body = {"error": {"code": error.code, "message": str(error)}, **more}
            click.echo(json.dumps(body, ensure_ascii=False, indent=2))
        else:
            click.echo(f"{click.style('error:', fg='red')} {error}", err=True, color=colour(sys.stderr))


def _shared_options(**more: Any) -> list[click.Parameter]:
    """`--home` and `--json`, as every command and group takes them."""
    home = click.Option(
        ["--home", "home_dir"],
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="The data folder.  [default: ~/.uhlp]",
        **more,
    )
    return [home, click.Option(["--json", "as_json"], is_flag=True, help="Answer in JSON.", **more)]


class Command(click.Command):
    """A command with `--home` and `--json` whose expected errors become one line and an exit code."""

    def __init__(
        self, name: str | None, *, params: list[click.Parameter] | None = None, **attributes: Any
    ) -> None:
        super().__init__(name, params=[*(params or ()), *_shared_options()], **attributes)

    def invoke(self, ctx: click.Context) -> Any:
        given = {**ctx.meta.get(_GIVEN_BEFORE, {}), **_given(ctx.params)}
        for name in _SHARED:
            del ctx.params[name]
        invocation = ctx.obj = Invocation(given.get("home_dir"), given.get("as_json", False))
        try:
            return super().invoke(ctx)
        except UhlpError as error:
            invocation.report(error)
            ctx.exit(exit_code(error))
        except PermissionError as error:
            invocation.report(
                UhlpError(
                    f"{error.filename or error}: permission denied; run as the owner of the data folder, "
                    "or name another one with --home",
                    code="PERMISSION_DENIED",
                )
            )
            ctx.exit(ExitCode.PROBLEM)


class Group(click.Group):
    """A group whose commands are `Command`s; what they share may as well stand before their names."""

    command_class = Command

    def __init__(
        self, name: str | None = None, *, params: list[click.Parameter] | None = None, **attributes: Any
    ) -> None:
        shared = _shared_options(expose_value=False, callback=_remember)
        super().__init__(name, params=[*(params or ()), *shared], **attributes)


def _remember(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    # The context's `meta` is one for the groups and the command of a command line.
    ctx.meta.setdefault(_GIVEN_BEFORE, {}).update(_given({str(option.name): value}))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in _SHARED if options.get(name)}


def exit_code(error: UhlpError) -> ExitCode:
    match error:
        case InvalidInput():
            return ExitCode.USAGE
        case Unavailable():
            return ExitCode.NOT_RUNNING
        case _:
            return ExitCode.PROBLEM


def colour(stream: Any) -> bool:
    """Whether escape codes belong on `stream`: only on a terminal, and never with NO_COLOR set."""
    import os

    return stream.isatty() and not os.environ.get("NO_COLOR")
