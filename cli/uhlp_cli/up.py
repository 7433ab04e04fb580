"""`uhlp up` runs the whole platform on this machine; `uhlp daemon` runs one daemon of it."""

import sys
import time
from typing import TYPE_CHECKING

import click

from uhlp_cli.frame import Command, Invocation
from uhlp_core.errors import InvalidInput
from uhlp_core.ids import PLATFORM_APP

if TYPE_CHECKING:
    from uhlp_core.daemon import Main
    from uhlp_core.settings import Settings

DAEMONS = ("registry", "sandboxes", "routes", "cleanup", "gateway", "control", "mcp")


@click.command("up", cls=Command)
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the gateway.  [default: 8080]")
@click.option("--no-examples", is_flag=True, help="Do not create the example apps in an empty home.")
@click.pass_obj
def up(invocation: Invocation, port: int | None, no_examples: bool) -> None:
    """Run the whole platform in the foreground until Ctrl-C.

    Everything is kept in the data folder; the next start finds it all again. An empty home gets the example
    apps, pushed with plain git.
    """
    from uhlp_cli.supervisor import Supervisor
    from uhlp_core.settings import Settings
    from uhlp_core.sockets import CannotListen
    from uhlp_core.telemetry import set_up_logging

    began = time.monotonic()
    settings = Settings.load(home_dir=invocation.home_dir, port=port)
    set_up_logging("uhlp", settings)
    try:
        supervisor = Supervisor(settings)
    except CannotListen as error:
        raise InvalidInput(f"{error}; choose another port with --port") from None
    try:
        supervisor.start()
        # Only now: it imports prometheus_client, which looks once where to count.
        from uhlp_cli import examples

        _ensure_platform_repo(supervisor.settings)
        fresh = [] if no_examples else examples.create_if_empty(supervisor.settings)
        invocation.answer(
            {
                "gateway": supervisor.settings.port,
                "control": supervisor.settings.effective_control_port,
                "mcp": supervisor.settings.effective_mcp_port,
            },
            examples.welcome(supervisor.settings, fresh, time.monotonic() - began),
        )
        sys.stdout.flush()
        supervisor.run()
    finally:
        click.echo("stopping …", err=True)
        supervisor.stop()


@click.command("daemon", cls=Command)
@click.argument("name", type=click.Choice(DAEMONS))
@click.pass_obj
def daemon(invocation: Invocation, name: str) -> None:
    """Run one daemon in the foreground, as a service manager does.

    Redis must be running (`uhlp up` brings its own; else set UHLP_REDIS). A listening socket that is handed
    down by LISTEN_FDS under the daemon's name is used instead of binding one.
    """
    from uhlp_core import daemon as process

    settings = invocation.settings
    settings.home.create()
    if name == "registry":
        from uhlp_hooks.install import install_hooks

        install_hooks(settings.home, settings.push_wait_seconds)
        _ensure_platform_repo(settings)
    process.run(name, _main(name), settings)


def _ensure_platform_repo(settings: "Settings") -> None:
    """Make the platform's own repo at the first start."""
    if not settings.home.repo(PLATFORM_APP).exists():
        # Imported only then: this process lives long, and needs none of it afterwards.
        from uhlp_cli import platform_repo

        platform_repo.ensure(settings)


def _main(name: str) -> "Main":
    """The daemon's entry; only its own modules are imported."""
    if name == "gateway":
        from uhlp_gateway import server as gateway

        return gateway.serve
    if name == "control":
        from uhlp_control import server as control

        return control.serve
    if name == "mcp":
        from uhlp_mcp import server as mcp

        return mcp.serve
    from uhlp_reconcilers.daemons import MAINS

    return MAINS[name]
