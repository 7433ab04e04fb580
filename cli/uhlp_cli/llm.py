"""`uhlp llm`: what apps use of language models."""

from typing import TYPE_CHECKING

import click

from uhlp_cli.frame import Group, Invocation
from uhlp_cli.live import with_redis
from uhlp_cli.output import table
from uhlp_cli.repos import existing_app

if TYPE_CHECKING:
    from uhlp_core.store import Store
    from uhlp_mcp.llm.usage import Use

MAX_DAYS = 35
"""As long as counters are kept."""


@click.group("llm", cls=Group)
def llm() -> None:
    """See what apps use of language models."""


@llm.command("usage")
@click.argument("app")
@click.option(
    "--days",
    type=click.IntRange(1, MAX_DAYS),
    default=1,
    show_default=True,
    help="How many days (UTC), today among them.",
)
@click.pass_obj
def usage(invocation: Invocation, app: str, days: int) -> None:
    """Show what APP used: calls, tokens and money, by component, user and model.

    Failed and repaired attempts count too. Money is `unknown` where a model's price is.

    Scripted is how many of the attempts and cached answers were of a scripted provider, which is no model.

    With --json: {app, usage: [{day, kind, name, calls, cached, attempts, failures, scripted, inputTokens,
    outputTokens, costUsd}]}; kind is app, component, user or model.
    """
    existing_app(invocation.home, app)

    async def work(store: "Store") -> "list[Use]":
        from uhlp_mcp.llm.usage import read_usage

        return await read_usage(store, app, days)

    found = [use.to_json() for use in with_redis(invocation.settings, work)]
    if invocation.json:
        invocation.answer({"app": app, "usage": found}, "")
        return
    if not found:
        click.echo(f"{app} has not called a language model.", err=True)
        return
    table(
        ("day", "of", "calls", "cached", "attempts", "failures", "scripted", "input", "output", "USD"),
        [
            (
                one["day"],
                f"{one['kind']} {one['name']}".strip(),
                *(
                    str(one[counter])
                    for counter in (
                        "calls",
                        "cached",
                        "attempts",
                        "failures",
                        "scripted",
                        "inputTokens",
                        "outputTokens",
                    )
                ),
                "unknown" if one["costUsd"] is None else f"{one['costUsd']:.6f}",
            )
            for one in found
        ],
    )
