"""`uhlp events`: what happened to an app."""

import json
from typing import TYPE_CHECKING

import click

from uhlp_cli.frame import Command, Invocation
from uhlp_cli.live import with_redis
from uhlp_cli.output import clean, clock, line, short
from uhlp_cli.repos import existing_app

if TYPE_CHECKING:
    from uhlp_core.events import Event
    from uhlp_core.store import Store


@click.command("events", cls=Command)
@click.argument("app")
@click.option("-f", "--follow", is_flag=True, help="Go on with every new event until interrupted.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    help="How many to begin with.",
)
@click.pass_obj
def events(invocation: Invocation, app: str, follow: bool, lines: int) -> None:
    """Show what happened to APP: which daemon, which commit, and why.

    With --json: one JSON object a line, {app, deployment, component, reason, message, commit, type, at}.
    """
    existing_app(invocation.home, app)

    async def work(store: "Store") -> None:
        from uhlp_core.events import follow as new_events
        from uhlp_core.events import history

        position = "0"
        for position, event in await history(store, app, max(lines, 1)):  # noqa: B007 - where to go on
            if lines:
                _show(event, invocation.json)
        if follow:
            async for event in new_events(store, app, position):
                _show(event, invocation.json)

    try:
        with_redis(invocation.settings, work)
    except KeyboardInterrupt:
        return


def _show(event: "Event", as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event.to_json(), ensure_ascii=False))
        return
    text = (
        f"{clock(event.at)}  {short(event.commit)}  {event.component:<9} {event.deployment:<12} "
        f"{event.reason}{event.message and ': '}{event.message}"
    )
    line(clean(text), fg="yellow" if event.type == "Warning" else None)
