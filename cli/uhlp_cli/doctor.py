"""`uhlp doctor`: the checks of `health` and `health_containers`, with what to do about each that fails."""

import sys
from dataclasses import asdict

import click

from uhlp_cli.frame import Command, ExitCode, Invocation
from uhlp_cli.output import line

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor", cls=Command)
@click.pass_obj
def doctor(invocation: Invocation) -> None:
    """Check this machine and this installation; say what to do about what is missing.

    Exits with 1 if a check fails; a warning does not count.

    With --json: {ok, checks: [{name, verdict: ok|warn|fail, found, remedy}]}.
    """
    from uhlp_cli.health import Verdict, check_all
    from uhlp_cli.health_containers import check_containers

    checks = check_all(invocation.settings) + check_containers(invocation.settings)
    healthy = all(check.verdict != Verdict.FAIL for check in checks)
    if invocation.json:
        invocation.answer({"ok": healthy, "checks": [asdict(check) for check in checks]}, "")
    else:
        for check in checks:
            line(f"{check.verdict:<4}  {check.name:<12}  {check.found}", fg=_COLOURS[check.verdict])
            if check.remedy:
                line(f"      {'':<12}  {check.remedy}")
    if not healthy:
        sys.exit(ExitCode.PROBLEM)
