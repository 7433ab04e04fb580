"""`uhlp app`: create, list, delete, suspend and resume apps."""

import sys
from typing import Any

import click

from uhlp_cli.frame import Group, Invocation
from uhlp_cli.going_live import answer_when_live, wait_options
from uhlp_cli.live import addresses, running_state
from uhlp_cli.output import short, table
from uhlp_cli.repos import app_names, existing_app, heads
from uhlp_core.errors import Conflict, InvalidInput, Unavailable
from uhlp_core.ids import Deployment, check_app_id

DEFAULT_TEMPLATE = "hello"


@click.group("app", cls=Group)
def app() -> None:
    """Create, list, delete, suspend and resume apps."""


@app.command("create")
@click.argument("name")
@click.option("--template", default=DEFAULT_TEMPLATE, show_default=True, help="What the app begins with.")
@wait_options
@click.pass_obj
def create(invocation: Invocation, name: str, template: str, no_wait: bool, timeout: float) -> None:
    """Create the app NAME: a state repo with a first commit, to be cloned with plain Git.

    While the platform runs, it waits until the app is live.

    With --json: {app, commit, path, gitUrl, url, live, message}; live is null where it did not wait.
    """
    from uhlp_cli.new_app import create_app
    from uhlp_state.templates import UnknownTemplate, render_template

    check_app_id(name)
    try:
        files = render_template(template, name)
    except UnknownTemplate as error:
        raise InvalidInput(str(error), code="UNKNOWN_TEMPLATE") from None
    commit = create_app(invocation.settings, name, files, f"Begin {name} from the template {template}")
    where = addresses(invocation.settings)
    document = {
        "app": name,
        "commit": commit,
        "path": str(invocation.home.repo(name)),
        "gitUrl": where.git_url(name),
        "url": where.app_url(Deployment(name)),
    }
    if not invocation.json:
        click.echo(
            f"Created {name} from the template {template} ({short(commit)}).\n\n"
            f"  clone   git clone {document['path']}\n"
            f"  or      git clone {document['gitUrl']}\n"
            f"  served  {document['url']}\n"
        )
    if no_wait:
        untold = f"See `uhlp status {name}`."
    elif running_state(invocation.settings) is None:
        untold = "It goes live as soon as the platform runs: `uhlp up`."
    else:
        try:
            answer_when_live(invocation, name, commit, timeout, document, "the app is created")
            return
        except Unavailable as error:
            # Nothing has failed: an app can be created while the platform is down.
            untold = f"Whether it is live is not known: {error}"
    invocation.answer({**document, "live": None, "message": untold}, untold)


@app.command("list")
@click.pass_obj
def list_apps(invocation: Invocation) -> None:
    """List the apps with the newest commit of each.

    With --json: {apps: [{app, url, path, commit, subject, previews, suspended, reason}]}.
    """
    from uhlp_cli.platform_repo import suspended

    where = addresses(invocation.settings)
    stopped = suspended(invocation.settings)
    found: list[dict[str, Any]] = []
    for name in app_names(invocation.home):
        branches = {head.deployment.preview: head for head in heads(invocation.home, name)}
        main = branches.get(None)
        found.append(
            {
                "app": name,
                "url": where.app_url(Deployment(name)),
                "path": str(invocation.home.repo(name)),
                "commit": main.commit if main else None,
                "subject": main.subject if main else None,
                "previews": [preview for preview in branches if preview],
                "suspended": name in stopped,
                "reason": stopped.get(name),
            }
        )
    if invocation.json:
        invocation.answer({"apps": found}, "")
    elif not found:
        click.echo(f"No apps in {invocation.home.root} yet: `uhlp app create NAME` makes one.", err=True)
    else:
        table(
            ("app", "commit", "subject", "previews", "url"),
            [
                (
                    one["app"],
                    short(one["commit"]),
                    f"suspended {one['reason']}".strip() if one["suspended"] else one["subject"] or "-",
                    ", ".join(one["previews"]) or "-",
                    one["url"],
                )
                for one in found
            ],
        )


@app.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--purge", is_flag=True, help="Also remove, for good, all that is kept of it.")
@click.pass_obj
def delete(invocation: Invocation, name: str, yes: bool, purge: bool) -> None:
    """Stop serving the app NAME and move its repo to the trash.

    Its files (core.filesystem, MCP servers), runtime state, logs and secrets stay: a next app of that name
    finds them.

    With --purge nothing of the app and its previews is kept: neither that, nor the repo, nor what earlier
    apps of that name left in the trash. It needs Redis, waits until the app's sandboxes have ended, and may
    follow a deletion without it. Secrets from elsewhere (environment, SOPS, Vault) are not the platform's to
    remove.

    With --json: {app, purged, trash}; trash is null after --purge.
    """
    from uhlp_cli.deleting import kept_of, move_to_trash
    from uhlp_cli.deleting import purge as purge_app

    home = invocation.home
    check_app_id(name)
    repo = home.repo(name) if purge and kept_of(home, name) else existing_app(home, name)
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidInput(
                f"deleting {name} needs a yes, and there is no terminal to ask on: pass --yes",
                code="CONFIRMATION_NEEDED",
            )
        what = (
            "for good, with its history, files, runtime state, logs and secrets"
            if purge
            else "(its repo goes to the trash; its files, runtime state, logs and secrets stay)"
        )
        click.confirm(f"Delete {name} {what}?", abort=True, err=True)
    if purge:
        purge_app(invocation.settings, name)
        invocation.answer({"app": name, "purged": True, "trash": None}, f"Deleted {name} for good.")
    else:
        trash = move_to_trash(home, name)
        invocation.answer(
            {"app": name, "purged": False, "trash": str(trash)},
            f"Deleted {name}. Its files, runtime state, logs and secrets stay for the next app of that name; "
            f"`uhlp app delete {name} --purge` removes them. To bring it back:\n\n  mv {trash} {repo}",
        )


@app.command("suspend")
@click.argument("name")
@click.option("--reason", default="", metavar="TEXT", help="Why; its owners read it.")
@click.pass_obj
def suspend(invocation: Invocation, name: str, reason: str) -> None:
    """Stop serving the app NAME, with a commit to the platform repo.

    With --json: {app, suspended, commit}.
    """
    from uhlp_cli.platform_repo import suspend as commit_suspension

    check_app_id(name)
    existing_app(invocation.home, name)
    commit = commit_suspension(invocation.settings, name, reason)
    if commit is None:
        raise Conflict(f"{name} is suspended already; `uhlp app resume {name}` serves it again")
    invocation.answer(
        {"app": name, "suspended": True, "commit": commit},
        f"Suspended {name} ({short(commit)} in the platform repo). `uhlp app resume {name}` serves it again.",
    )


@app.command("resume")
@click.argument("name")
@click.pass_obj
def resume(invocation: Invocation, name: str) -> None:
    """Serve the suspended app NAME again, with a commit to the platform repo.

    With --json: {app, suspended, commit}.
    """
    from uhlp_cli.platform_repo import resume as commit_resumption

    check_app_id(name)
    commit = commit_resumption(invocation.settings, name)
    if commit is None:
        raise Conflict(f"{name} is not suspended")
    invocation.answer(
        {"app": name, "suspended": False, "commit": commit},
        f"Resumed {name} ({short(commit)} in the platform repo).",
    )
