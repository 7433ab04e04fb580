"""How text reaches a person: tables and colour on a terminal, plain tab-separated lines in a pipe."""

import re
import sys
import time
from collections.abc import Iterable, Sequence

import click

from uhlp_cli.frame import colour

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What could move the cursor, recolour or retitle a terminal; tab and newline may stay."""

SHORT = 7
"""Characters of a commit id that people are shown."""


def clean(text: str) -> str:
    """`text` without terminal control characters: apps write it, and it must stay text."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def short(commit: str | None) -> str:
    return commit[:SHORT] if commit else "-"


def clock(seconds: float) -> str:
    """A time of day in the local time zone; with the date if it is not today's."""
    moment = time.localtime(seconds)
    today = moment[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", moment)


def line(text: str, **style: object) -> None:
    """Print one line, styled (`fg=`, `dim=`, `bold=`) where colour belongs."""
    shown = click.style(text, **style) if any(style.values()) else text  # type: ignore[arg-type]
    click.echo(shown, color=colour(sys.stdout))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with a head on a terminal; in a pipe tab-separated lines without one, for cut and awk."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(clean(cell).replace("\t", " ").replace("\n", " ") for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold" if colour(sys.stdout) else "")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(clean(cell)) for cell in row))
    Console().print(shown)
