"""`uhlp status`: what is served, what should be, and the reason for the difference."""

import sys
from typing import TYPE_CHECKING, Any

import click

from uhlp_cli import instance_rows
from uhlp_cli.deployments import DeploymentView, known, view
from uhlp_cli.frame import Command, ExitCode, Invocation
from uhlp_cli.live import Addresses, addresses, with_redis
from uhlp_cli.output import clean, clock, line, short, table
from uhlp_cli.repos import Head, app_names, existing_app, heads
from uhlp_core.errors import Unavailable
from uhlp_core.home import Home

if TYPE_CHECKING:
    from uhlp_core.store import Store

_COLOURS = {"Ready": "green", "Stalled": "red", "Reconciling": "yellow", "Waiting": "yellow"}


@click.command("status", cls=Command)
@click.argument("app", required=False)
@click.pass_obj
def status(invocation: Invocation, app: str | None) -> None:
    """Show every deployment, or those of APP with their pools and instances.

    Without Redis it says so, shows the heads that Git has, and exits with 3.
    Times in JSON are seconds since the epoch.

    \b
    With --json: {deployments: [{deployment, app, url, condition, ready, reconciling, stalled,
      suspended, reason, message, attempted, applied, nextRetry,
      pools: [{pool, instances: [{instance, state, backend, container, outdated, pid, restarts, lastExit,
        startedAt, ageSeconds, memoryBytes, memoryLimitBytes, cpuPercent, cpuSeconds, processes}]}]}]},
      or {error, heads: [{deployment, branch, commit, subject}]}.
    """
    home = invocation.home
    if app is not None:
        existing_app(home, app)
    wanted = [head for name in ([app] if app else app_names(home)) for head in heads(home, name)]

    async def work(store: "Store") -> list[DeploymentView]:
        there = {head.deployment: None for head in wanted}
        there.update((found, None) for found in await known(store) if app in (None, found.app))
        return [
            await view(store, deployment)
            for deployment in sorted(there, key=lambda one: (one.app, one.preview or ""))
        ]

    try:
        views = with_redis(invocation.settings, work)
    except Unavailable as error:
        _without_redis(invocation, wanted, error)
        sys.exit(ExitCode.NOT_RUNNING)
    where = addresses(invocation.settings)
    if invocation.json:
        invocation.answer({"deployments": [_document(one, where) for one in views]}, "")
    elif app is None:
        _overview(home, views)
    else:
        for one in views:
            _details(one, where)


def _without_redis(invocation: Invocation, wanted: list[Head], error: Unavailable) -> None:
    found = [
        {
            "deployment": head.deployment.id,
            "branch": head.branch,
            "commit": head.commit,
            "subject": head.subject,
        }
        for head in wanted
    ]
    invocation.report(error, heads=found)
    if not invocation.json:
        click.echo("Git has these heads; what is served is not known:", err=True)
        table(
            ("deployment", "branch", "commit", "subject"),
            [(head.deployment.id, head.branch, short(head.commit), head.subject) for head in wanted],
        )


def _overview(home: Home, views: list[DeploymentView]) -> None:
    if not views:
        click.echo(f"No apps in {home.root} yet: `uhlp app create NAME` makes one.")
        return
    table(
        ("deployment", "condition", "serving", "newest", "instances", "reason", "message"),
        [
            (
                one.deployment.id,
                one.word,
                short(one.conditions.applied),
                short(one.conditions.attempted),
                str(sum(1 for found in one.instances if found["state"] != "standby")),
                one.conditions.reason,
                one.conditions.message.partition("\n")[0],
            )
            for one in views
        ],
    )


def _details(one: DeploymentView, where: Addresses) -> None:
    now = one.conditions
    line(f"{one.deployment.id}  {one.word}", bold=True, fg=_COLOURS.get(one.word))
    line(f"  url       {where.app_url(one.deployment)}")
    line(f"  serving   {short(now.applied)}")
    line(f"  newest    {short(now.attempted)}")
    line(f"  reason    {now.reason}")
    for text in clean(now.message).splitlines():
        line(f"            {text}")
    if now.next_retry is not None:
        line(f"  retry at  {clock(now.next_retry)}")
    if one.instances:
        table(instance_rows.COLUMNS, instance_rows.rows(one))


def _document(one: DeploymentView, where: Addresses) -> dict[str, Any]:
    now = one.conditions
    return {
        "deployment": one.deployment.id,
        "app": one.deployment.app,
        "url": where.app_url(one.deployment),
        "condition": one.word,
        "ready": now.ready,
        "reconciling": now.reconciling,
        "stalled": now.stalled,
        "suspended": one.suspended,
        "reason": now.reason,
        "message": now.message,
        "attempted": now.attempted,
        "applied": now.applied,
        "nextRetry": now.next_retry,
        "pools": [
            {"pool": pool, "instances": [instance_rows.document(found, one.usage) for found in instances]}
            for pool, instances in one.pools().items()
        ],
    }
