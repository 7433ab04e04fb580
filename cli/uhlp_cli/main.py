"""The command `uhlp`. Each command's module is imported only when it is used, so that help comes at once."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from uhlp_cli.frame import EXIT_CODES, Group


class Entry(NamedTuple):
    """Where a command lives, and the one line that says what it is for."""

    module: str
    attribute: str
    summary: str


COMMANDS: Mapping[str, Entry] = {
    "up": Entry("up", "up", "Run the whole platform on this machine."),
    "app": Entry("app", "app", "Create, list, delete, suspend and resume apps."),
    "status": Entry("status", "status", "Show what is served, and why not what should be."),
    "logs": Entry("logs", "logs", "Show an app's requests, output and errors."),
    "events": Entry("events", "events", "Show what happened to an app: who, what, which commit, why."),
    "rollback": Entry("rollback", "rollback", "Go back to an earlier revision, with a commit that says so."),
    "validate": Entry("validate", "validate", "Check a folder exactly as a push would."),
    "call": Entry("call", "call", "Send one request to an app through the gateway."),
    "token": Entry("credentials", "token", "Print a signed token for an app's MCP clients."),
    "key": Entry("credentials", "key", "Make an API key and the entry that lets it into an app."),
    "llm": Entry("llm", "llm", "See what apps use of language models."),
    "schema": Entry("schema", "schema", "Work with the JSON Schemas of a state repo's files."),
    "secrets": Entry("secrets", "secrets", "Set, list and delete what apps use and nobody reads."),
    "mcp": Entry("mcp_servers", "mcp", "See and approve the tools of others' MCP servers that apps use."),
    "images": Entry("images", "images", "Build and list the container images that sandboxes run in."),
    "doctor": Entry("doctor", "doctor", "Check this machine and this installation."),
    "completion": Entry("completion", "completion", "Print the shell code that completes `uhlp`."),
    "daemon": Entry("up", "daemon", "Run one daemon in the foreground, as a service manager does."),
}


class LazyGroup(Group):
    """A group that lists its commands from `COMMANDS` and imports one only to run or complete it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(f"uhlp_cli.{entry.module}"), entry.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"uhlp_cli.{entry.module}.{entry.attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="uhlp", prog_name="uhlp")
def cli() -> None:
    """Run applications that are declared in Git: push to deploy, revert to roll back.

    Every command takes --home DIR (or UHLP_HOME) and --json, before its name or after it.
    """


def main(**options: Any) -> None:
    """The entry point of the `uhlp` script."""
    cli(prog_name="uhlp", **options)
