"""`uhlp mcp`: which MCP servers an app uses, what they offer, and the approval of it as a commit."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from uhlp_cli.committing import CLONES, commit_files, operator, refuse_invalid
from uhlp_cli.frame import Group, Invocation
from uhlp_cli.going_live import answer_when_live, wait_options
from uhlp_cli.output import clean, line, short, table
from uhlp_cli.repos import existing_app
from uhlp_core.errors import Conflict, InvalidInput, NotFound, UhlpError, Unavailable
from uhlp_core.ids import PRODUCTION_BRANCH, Deployment

if TYPE_CHECKING:
    from uhlp_core.home import Home
    from uhlp_state.model import McpPins, PinnedTool


@click.group("mcp", cls=Group)
def mcp() -> None:
    """See and approve what MCP servers of others offer to an app, as `community.SERVER.TOOL`."""


@mcp.command("status")
@click.argument("app")
@click.option("--preview", metavar="NAME", help="Of the app's preview NAME instead of production.")
@click.pass_obj
def status(invocation: Invocation, app: str, preview: str | None) -> None:
    """Show the MCP servers of APP: whether they run, what is offered, what is held back and why.

    \b
    With --json: {servers: [{server, kind, state, error, retryAfter, pid, isPinned, tools, held}]}.
    """
    existing_app(invocation.home, app)
    deployment = Deployment(app, preview).id
    found = _ask(invocation.home, "GET", f"/servers/{quote(deployment)}")
    if invocation.json:
        invocation.answer(found, "")
        return
    table(
        ("SERVER", "KIND", "STATE", "OFFERED", "HELD BACK", "LAST ERROR"),
        [
            (
                one["server"],
                one["kind"],
                one["state"],
                ", ".join(one["tools"])
                if one["isPinned"]
                else f"nothing: uhlp mcp pin {app} {one['server']}",
                ", ".join(one["held"]) or "-",
                one["error"] or "-",
            )
            for one in found["servers"]
        ],
    )


@mcp.command("pin")
@click.argument("app")
@click.argument("server")
@click.option("--propose", is_flag=True, help="Make a branch proposals/… to be reviewed, and leave main.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@wait_options
@click.pass_obj
def pin(
    invocation: Invocation,
    app: str,
    server: str,
    propose: bool,
    yes: bool,
    no_wait: bool,
    timeout: float,
) -> None:
    """Ask the running SERVER of APP for its tools, show them, and approve them with a commit.

    Read what is shown: descriptions are what language models get to read. From then on a tool that says
    anything else is held back. A commit on main is waited for until it is live.

    \b
    With --json (needs --yes): {app, server, branch, commit, tools: [names], warnings: [texts], live,
      message}; commit is null if nothing changed, live where it did not wait.
    """
    from uhlp_state.git_repo import read_ref
    from uhlp_state.model import McpPins, PinnedTool

    repo = existing_app(invocation.home, app)
    if invocation.json and not yes:
        raise InvalidInput("with --json nobody is asked: add --yes")
    head = read_ref(repo, PRODUCTION_BRANCH)
    if head is None:
        raise NotFound(f"{app} has no commit on {PRODUCTION_BRANCH} yet", code="NO_COMMIT")
    found = _ask(invocation.home, "POST", f"/look/{quote(app)}/{quote(server)}")
    pins = McpPins(tools=tuple(PinnedTool.model_validate(tool) for tool in found["tools"]))
    before = _pinned(repo, head, server)
    names = [tool.name for tool in pins.tools]
    warnings = [_no_such_tool(pattern, names) for pattern in found["unmatched"]]
    if not invocation.json:
        _show_all(pins, before, warnings)
    document = {
        "app": app,
        "server": server,
        "branch": PRODUCTION_BRANCH,
        "commit": None,
        "tools": names,
        "warnings": warnings,
    }
    if list(before.values()) == list(pins.tools):
        unchanged = "Nothing has changed since it was approved."
        message = unchanged if before else f"{server} offers no tools, so there is nothing to approve."
        invocation.answer({**document, "live": None, "message": message}, message)
        return
    if not yes:
        click.confirm(f"Approve these {len(names)} tools of {server}?", abort=True)
    branch, commit = _commit(repo, head, server, pins, propose=propose)
    if not invocation.json:
        line(f"✔ {short(commit)} on {branch}", fg="green")
    document |= {"branch": branch, "commit": commit}
    if propose:
        message = f"Nothing is approved before {branch} is merged into {PRODUCTION_BRANCH}."
        invocation.answer({**document, "live": None, "message": message}, message)
        return
    if not invocation.json:
        line(CLONES, dim=True)
    message = f"See `uhlp status {app}`."
    if not no_wait:
        try:
            answer_when_live(invocation, app, commit, timeout, document, "the tools are approved")
            return
        except Unavailable as error:
            message = f"Whether it is live is not known: {error}"
    invocation.answer({**document, "live": None, "message": message}, message)


def _commit(repo: Path, head: str, server: str, pins: "McpPins", *, propose: bool) -> tuple[str, str]:
    """Branch and commit. Raises UhlpError for what a push would be refused for, such as a schema that leads
    outside itself.
    """
    from uhlp_state.commits import move_branch, stage_commit
    from uhlp_state.git_repo import heads
    from uhlp_state.model.mcp_servers import PINS
    from uhlp_state.proposals import Proposal

    content = json.dumps(pins.to_json(), ensure_ascii=False, indent=2) + "\n"
    files = {f"{PINS}{server}.json": content.encode()}
    message = f"Approve {len(pins.tools)} tools of the MCP server {server}"
    staged = stage_commit(repo, head, files, message, operator())
    what = "the tools cannot be approved as they are"
    refuse_invalid(repo, staged.source(repo), staged.commit, staged.tree, what)
    if not propose:
        return PRODUCTION_BRANCH, commit_files(repo, head, files, message)
    branch = Proposal(f"pin-{server}").branch(repo, heads(repo))
    staged.write(repo)
    if not move_branch(repo, branch, None, staged.commit):
        raise Conflict(f"somebody else made {branch} meanwhile; try again")
    return branch, staged.commit


def _pinned(repo: Path, head: str, server: str) -> "dict[str, PinnedTool]":
    """The tools that are approved already; none where the file is missing or cannot be read."""
    from pydantic import ValidationError

    from uhlp_state.commits import file_at
    from uhlp_state.model import McpPins
    from uhlp_state.model.mcp_servers import PINS

    try:
        found = McpPins.model_validate_json(file_at(repo, head, f"{PINS}{server}.json") or b"")
    except ValidationError:
        return {}
    return {tool.name: tool for tool in found.tools}


def _no_such_tool(pattern: str, names: list[str]) -> str:
    from uhlp_state.problems import did_you_mean, quoted

    remedy = did_you_mean(pattern, names, "correct `tools` or `exceptTools` in state/app_definition.yaml")
    return f"the server has no tool {quoted(pattern)}; {remedy}"


def _show_all(pins: "McpPins", before: "dict[str, PinnedTool]", warnings: list[str]) -> None:
    for tool in pins.tools:
        _show(tool, before.get(tool.name))
    for name in sorted(before.keys() - {tool.name for tool in pins.tools}):
        line(f"- {name}: gone", fg="yellow")
    for warning in warnings:
        line(f"! {clean(warning)}", fg="yellow")


def _show(tool: "PinnedTool", before: "PinnedTool | None") -> None:
    mark, colour = ("=", None) if before == tool else ("~", "yellow") if before else ("+", "green")
    line(f"{mark} {clean(tool.name)}", fg=colour, bold=True)
    for text in clean(tool.description).splitlines():
        line(f"    {text}")
    if before is not None and before != tool:
        line("    (was approved as:)", dim=True)
        for text in clean(before.description).splitlines():
            line(f"    {text}", dim=True)
    line(f"    arguments: {clean(json.dumps(tool.input_schema, ensure_ascii=False))}", dim=True)


def _ask(home: "Home", method: str, target: str) -> dict[str, Any]:
    """The MCP daemon's answer. Raises UhlpError with its own words, Unavailable if it does not run."""
    from uhlp_core.unix_http import ConnectionLost, connect, message

    async def work() -> dict[str, Any]:
        try:
            connection = await connect(str(home.mcp_socket))
        except OSError:
            raise Unavailable(
                f"the MCP server of {home.root} does not run: start the platform with `uhlp up`"
            ) from None
        try:
            reply = await connection.request(message(method, target, b""))
        except ConnectionLost:
            raise Unavailable("the MCP server ended before it had answered; try again") from None
        finally:
            connection.close()
        found: dict[str, Any] = json.loads(reply.body)
        if reply.status != 200:
            raise UhlpError(found["detail"], code=found["code"])
        return found

    return asyncio.run(work())
