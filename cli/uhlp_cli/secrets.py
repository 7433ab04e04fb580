"""`uhlp secrets`: what apps may use and nobody may read, kept encrypted in the data folder."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from uhlp_cli.frame import Group, Invocation
from uhlp_cli.output import clock, table
from uhlp_cli.repos import existing_app
from uhlp_core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from uhlp_core.secrets import LocalSecrets


@click.group("secrets", cls=Group)
def secrets() -> None:
    """Set, list and delete the secrets that apps refer to as `secret:NAME`.

    They are encrypted in the data folder; the key lies outside of it (setting `secrets_key_file`).
    """


def _whose(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("--all-apps", is_flag=True, help="For every app, future ones included.")(function)
    return click.option("--app", metavar="APP", help="For this app alone.")(function)


@secrets.command("set")
@click.argument("name")
@_whose
@click.pass_obj
def set_secret(invocation: Invocation, name: str, app: str | None, all_apps: bool) -> None:
    """Store the secret NAME, read from standard input or asked for on a terminal.

    One newline at its end is dropped. With --json: {app, name}.
    """
    from uhlp_core.secrets import check_name

    owner = _owner(invocation, app, all_apps)
    check_name(name)
    if sys.stdin.isatty():
        value = click.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True, err=True)
    else:
        try:
            value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise InvalidInput(
                "a secret is text in UTF-8; encode other bytes, as Base64 for example"
            ) from None
    local = _local(invocation)
    local.set(owner, name, value)
    invocation.answer({"app": owner, "name": name}, f"{name} is set for {_people(owner)}")


@secrets.command("list")
@click.option("--app", metavar="APP", help="Only this app's own.")
@click.pass_obj
def list_secrets(invocation: Invocation, app: str | None) -> None:
    """List whose secrets there are, and when they were set; never their values.

    With --json: [{app, name, updatedAt}]; app is "*" where every app may use it.
    """
    found = [secret for secret in _local(invocation).list() if app in (None, secret.app)]
    if invocation.json:
        shown = [{"app": secret.app, "name": secret.name, "updatedAt": secret.updated_at} for secret in found]
        invocation.answer(shown, "")
    else:
        table(
            ("APP", "NAME", "SET"), [(secret.app, secret.name, clock(secret.updated_at)) for secret in found]
        )


@secrets.command("delete")
@click.argument("name")
@_whose
@click.pass_obj
def delete_secret(invocation: Invocation, name: str, app: str | None, all_apps: bool) -> None:
    """Delete the secret NAME. With --json: {app, name}."""
    owner = _owner(invocation, app, all_apps, must_exist=False)
    if not _local(invocation).delete(owner, name):
        raise NotFound(
            f"there is no secret {name} for {_people(owner)}; `uhlp secrets list` shows what there is"
        )
    invocation.answer({"app": owner, "name": name}, f"{name} is deleted for {_people(owner)}")


def _owner(invocation: Invocation, app: str | None, all_apps: bool, *, must_exist: bool = True) -> str:
    """For whom: deny by default means that it must be said. Raises InvalidInput, NotFound."""
    from uhlp_core.secrets import ALL_APPS

    if (app is None) is not all_apps:
        raise InvalidInput("say who may use it: either --app APP or --all-apps")
    if app is None:
        return ALL_APPS
    if must_exist:
        existing_app(invocation.home, app)
    return app


def _people(owner: str) -> str:
    from uhlp_core.secrets import ALL_APPS

    return "all apps" if owner == ALL_APPS else owner


def _local(invocation: Invocation) -> "LocalSecrets":
    from uhlp_core.secrets import local_secrets

    return local_secrets(invocation.settings)
