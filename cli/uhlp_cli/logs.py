"""`uhlp logs`: an app's log, filtered, once or as it grows."""

import json
from collections.abc import Callable

import click

from uhlp_cli import log_lines
from uhlp_cli.frame import Command, Invocation
from uhlp_cli.output import line
from uhlp_cli.repos import existing_app

_COLOURS = {"warning": "yellow", "error": "red", "critical": "red", "debug": "bright_black"}


@click.command("logs", cls=Command)
@click.argument("app")
@click.option("-f", "--follow", is_flag=True, help="Go on with every new line until interrupted.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="How many to begin with.",
)
@click.option("--component", metavar="ID", help="Only lines of this component.")
@click.option(
    "--request",
    "request_id",
    metavar="ID",
    help="Only lines of the request with this id, and of what it caused.",
)
@click.option("--pool", metavar="NAME", help="Only lines of this pool's instances.")
@click.option("--instance", metavar="ID", help="Only lines of this instance; `uhlp status APP` names them.")
@click.option("--level", type=click.Choice(log_lines.LEVELS), help="Only lines of this level or worse.")
@click.pass_obj
def logs(
    invocation: Invocation,
    app: str,
    follow: bool,
    lines: int,
    component: str | None,
    request_id: str | None,
    pool: str | None,
    instance: str | None,
    level: str | None,
) -> None:
    """Show APP's requests, its handlers' output, and what went wrong in them.

    With --json: one JSON object a line, as the log file has them.
    """
    existing_app(invocation.home, app)
    path = invocation.home.app_log(app)
    wanted = log_lines.Filter(component, request_id, pool, instance, level)
    show: Callable[[log_lines.Fields], None] = _show_json if invocation.json else _show
    found, position = log_lines.last(path, lines, wanted)
    for fields in found:
        show(fields)
    if follow:
        try:
            for fields in log_lines.follow(path, position, wanted):
                show(fields)
        except KeyboardInterrupt:
            return


def _show_json(fields: log_lines.Fields) -> None:
    click.echo(json.dumps(fields, ensure_ascii=False))


def _show(fields: log_lines.Fields) -> None:
    line(log_lines.readable(fields), fg=_COLOURS.get(str(fields.get("level"))))
