"""Follow a commit that a command has made until it is live, and tell how that went."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from uhlp_cli.frame import ExitCode, Invocation
from uhlp_cli.live import with_redis
from uhlp_cli.output import clean, line

if TYPE_CHECKING:
    from uhlp_core.store import Store
    from uhlp_reconcilers.rollouts import Progress

LOOK_SECONDS = 0.1
"""How late a command may tell that its commit is live."""


def wait_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--no-wait` and `--timeout`, as every command takes them that makes a commit."""
    seconds = click.option(
        "--timeout",
        type=click.FloatRange(0),
        default=60,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait until it is live.",
    )
    return click.option("--no-wait", is_flag=True, help="Do not wait until it is live.")(seconds(command))


def answer_when_live(
    invocation: Invocation,
    app: str,
    commit: str,
    seconds: float,
    document: Mapping[str, Any],
    made: str,
) -> None:
    """Answer `document` with {live, message} as soon as the commit is live, is refused, or the time is over.

    `made` tells people what is there although it is not live, which exits with `ExitCode.PROBLEM`. Raises
    Unavailable where the platform cannot be asked.
    """
    last = _follow(invocation, app, commit, seconds)
    if last is not None and last.live:
        invocation.answer({**document, "live": True, "message": last.message}, "✔ live")
        return
    why = last.message if last else "no daemon has reported"
    verdict = "not live" if last and last.done else f"not live after {seconds:g} s"
    invocation.answer(
        {**document, "live": False, "message": why},
        f"✘ {verdict}: {clean(why)}\n  {made}; see `uhlp status {app}`",
    )
    sys.exit(ExitCode.PROBLEM)


def _follow(invocation: Invocation, app: str, commit: str, seconds: float) -> "Progress | None":
    """Where the commit stands in the end; on the way people are told what happens."""

    async def work(store: "Store") -> "Progress | None":
        import asyncio

        from uhlp_reconcilers.rollouts import Rollouts

        rollouts = Rollouts(store)

        async def keep_looking() -> None:
            while True:
                rollouts.changed(app)
                await asyncio.sleep(LOOK_SECONDS)

        looking = asyncio.create_task(keep_looking())
        last = None
        try:
            async for last in rollouts.follow(app, commit, seconds):
                if not invocation.json and not last.done:
                    line(f"· {clean(last.message)}", dim=True)
        finally:
            looking.cancel()
        return last

    return with_redis(invocation.settings, work)
