"""`uhlp token` and `uhlp key`: what clients of people show. Neither needs a running platform."""

import re
import secrets
from datetime import UTC, datetime, timedelta

import click

from uhlp_cli.frame import Command, Invocation
from uhlp_cli.repos import heads
from uhlp_core.errors import InvalidInput, NotFound
from uhlp_core.ids import Deployment, check_user_id

MAX_HOURS = 24
"""A token cannot be taken back: what must last longer is an API key."""

MAX_DAYS = 3650
"""Ten years: a larger number is a typing mistake, and no `--days` means for ever."""

TOOL_ROOTS = ("app.", "core.", "community.")
"""Every tool's name begins with one of them: the app's own, the platform's, those of others' MCP servers."""

_TOOL_NAME = re.compile(r"app\.[^*]+|(core|community)\.[^.*]+\.[^*]+")

REGISTER = "register"
"""What lets a server of others tell its address."""

_SAFE_NAMES = "Show the client tools under names without dots, for those that take no others."
_USER = "in budgets per user, the audit log, and what handlers see."


@click.command("token", cls=Command)
@click.argument("app")
@click.option("--preview", metavar="NAME", help="For the app's preview NAME instead of production.")
@click.option(
    "--tool",
    "tools",
    multiple=True,
    metavar="NAME",
    help="A tool that the bearer may use, or a prefix and *; give it once for each.  [default: app.*]",
)
@click.option("--user", metavar="ID", help=f"Whom the app knows the bearer as: {_USER}  [default: nobody]")
@click.option("--safe-names", is_flag=True, help=_SAFE_NAMES)
@click.option("--hours", type=click.FloatRange(0, MAX_HOURS, min_open=True), default=1.0, show_default=True)
@click.pass_obj
def token(
    invocation: Invocation,
    app: str,
    preview: str | None,
    tools: tuple[str, ...],
    user: str | None,
    safe_names: bool,
    hours: float,
) -> None:
    """Print a signed token for APP that MCP clients send as `Authorization: Bearer`.

    It counts for a limited time and cannot be taken back; an API key (`uhlp key`) can.
    """
    from uhlp_core.tokens import Claims, TokenKey

    deployment = Deployment.parse(app if preview is None else f"{app}@{preview}")
    home = invocation.settings.home
    if not home.repo(deployment.app).exists():
        raise NotFound(f"there is no app {deployment.app!r} in {home.root}; `uhlp app list` names them all")
    for scope in tools:
        _check_scope(scope)
    if deployment not in [head.deployment for head in heads(home, deployment.app)]:
        missing = f"preview {deployment.preview!r}" if deployment.preview else "branch main"
        click.echo(
            f"{deployment.app} has no {missing} yet: the token opens nothing until it is pushed", err=True
        )
    home.create()
    claims = Claims(
        deployment.app,
        deployment.id,
        user="" if user is None else check_user_id(user),
        scopes=frozenset(tools or ("app.*",)),
        safe_names=safe_names,
    )
    signed = TokenKey.of(home).sign(claims, hours * 3600)
    invocation.answer({"token": signed, "seconds": round(hours * 3600)}, signed)


def _check_scope(scope: str) -> None:
    """Raise InvalidInput for what no tool can ever be named."""
    prefix = scope.removesuffix("*")
    if prefix != scope:
        opens = any(root.startswith(prefix) or prefix.startswith(root) for root in TOOL_ROOTS)
    else:
        opens = scope == REGISTER or _TOOL_NAME.fullmatch(scope) is not None
    if opens:
        return
    raise InvalidInput(
        f"--tool {scope!r} opens no tool: name one in full, as core.state.getRuntimeValue or app.add_note, "
        "or the beginning of names and *, as app.*, core.state.* or * for all"
    )


@click.command("key", cls=Command)
@click.option("--description", default="", metavar="WORDS", help="Whose key it is.")
@click.option("--user", metavar="ID", help=f"Whom the app knows its holder as: {_USER}  [default: the key]")
@click.option(
    "--permission",
    "permissions",
    multiple=True,
    metavar="NAME",
    help="What the key permits; give it once for each.  [default: mcp]",
)
@click.option("--safe-names", is_flag=True, help=_SAFE_NAMES)
@click.option(
    "--days",
    type=click.IntRange(1, MAX_DAYS),
    help="It ends by itself after so many days.  [default: never]",
)
@click.pass_obj
def key(
    invocation: Invocation,
    description: str,
    user: str | None,
    permissions: tuple[str, ...],
    safe_names: bool,
    days: int | None,
) -> None:
    """Make an API key, and the entry for `state/security_config.yaml` that lets it in.

    The key is shown once and kept nowhere; only its Argon2 hash goes into Git.
    """
    import yaml
    from argon2 import PasswordHasher

    made = secrets.token_urlsafe(32)
    entry = {
        "keyHash": PasswordHasher().hash(made),
        "description": description,
        **({} if user is None else {"user": check_user_id(user)}),
        "permissions": [*(permissions or ("mcp",)), *(("mcp-safe-names",) if safe_names else ())],
    }
    if days is not None:
        ends = datetime.now(UTC).replace(microsecond=0, tzinfo=None) + timedelta(days=days)
        entry["expiresAt"] = f"{ends.isoformat()}Z"
    document = yaml.safe_dump({"apiKeys": [entry]}, sort_keys=False)
    text = (
        f"The key (keep it; it is shown only now):\n\n    {made}\n\n"
        "In state/security_config.yaml (if it has `apiKeys:` already, add only the lines below that):\n\n"
    )
    invocation.answer({"key": made, "entry": entry}, text + document.rstrip())
