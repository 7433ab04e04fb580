"""The example apps of an empty home, deployed the way that everybody deploys: by `git push`."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from uhlp_cli.new_app import read_folder
from uhlp_cli.repos import app_names
from uhlp_core.errors import UhlpError
from uhlp_core.ids import Deployment
from uhlp_core.settings import Settings
from uhlp_hooks.install import install_hooks
from uhlp_reconcilers.backends.by_isolation import ByIsolation
from uhlp_reconcilers.backends.protocol import BackendError
from uhlp_reconcilers.daemons import backend
from uhlp_state.assets import assets_folder
from uhlp_state.git_repo import create_repo
from uhlp_state.model.pools import DEFAULT_IMAGE, Isolation
from uhlp_state.templates import render_template

TEMPLATE_APP = "hello"
PROMPT_APP = "summariser"

IDENTITY = {
    "GIT_AUTHOR_NAME": "UHLP examples",
    "GIT_AUTHOR_EMAIL": "examples@uhlp.invalid",
    "GIT_COMMITTER_NAME": "UHLP examples",
    "GIT_COMMITTER_EMAIL": "examples@uhlp.invalid",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


def create_if_empty(settings: Settings) -> list[str]:
    """Push every example app if this home has no app at all; returns the apps that were made.

    Raises UhlpError with git's words if a push is refused.
    """
    if app_names(settings.home):
        return []
    apps = {TEMPLATE_APP: render_template("hello", TEMPLATE_APP)}
    for folder in sorted(assets_folder("examples").iterdir()):
        if folder.is_dir():
            apps[folder.name] = read_folder(folder)
    install_hooks(settings.home, settings.push_wait_seconds)
    for app, files in apps.items():
        create_repo(settings.home.repo(app), settings.home.hooks, settings.max_push_bytes)
        _push(settings.home.repo(app), files, f"Add the example app {app}")
    return list(apps)


def _push(repo: Path, files: Mapping[str, bytes], message: str) -> None:
    with tempfile.TemporaryDirectory(prefix="uhlp-example-") as folder:
        work = Path(folder)
        for path, content in files.items():
            target = work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        _git(work, "init", "--quiet", "--initial-branch=main")
        _git(work, "add", "--all")
        _git(work, "commit", "--quiet", "--message", message)
        _git(work, "push", "--quiet", str(repo), "main")


def _git(work: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["git", "-C", str(work), *arguments], capture_output=True, text=True, env={**os.environ, **IDENTITY}
    )
    if done.returncode:
        raise UhlpError(f"git {arguments[0]} of an example app failed:\n{done.stderr.strip()}")


def welcome(settings: Settings, fresh: list[str], seconds: float) -> str:
    """What a person reads when the platform is up: where things are, and what to try."""
    apps = app_names(settings.home)
    lines = [
        "",
        f"  UHLP is ready in {seconds:.1f} s. Ctrl-C stops it; the data stays in {settings.home.root}",
        "",
    ]
    lines += [f"    {app:<12} {settings.app_url(Deployment(app))}" for app in apps]
    if fresh:
        lines.append("    (just pushed with git as examples)")
    first = TEMPLATE_APP if TEMPLATE_APP in apps else next(iter(apps), None)
    if first:
        lines += ["", "  Try:", f"    curl {settings.app_url(Deployment(first))}"]
        lines.append(f"    {_command('status', settings)}")
        if PROMPT_APP in apps:
            lines += [
                f"    {_command(f'call {PROMPT_APP} POST /api/summaries', settings)} \\",
                """        -d '{"interaction_transcript": "Customer: I was billed twice."}'""",
                "        # a prompt instead of code; for answers of a real LLM, give it a key:",
                f"    {_command(f'secrets set openai --app {PROMPT_APP}', settings)}",
            ]
        lines += [
            f"    git clone {settings.home.repo(first)} && cd {first}",
            "        # change a file, commit, git push: it is live when the push returns",
            "",
            f"  MCP clients find an app's tools at http://localhost:{settings.effective_mcp_port}/mcp/{first}",
        ]
    return "\n".join([*lines, "", *_sandboxes(settings), ""])


def _command(name: str, settings: Settings) -> str:
    """A command of ours as it can be typed here."""
    script = "uhlp" if shutil.which("uhlp") else os.path.relpath(sys.argv[0])
    default = settings.home_dir.expanduser() == Path("~/.uhlp").expanduser()
    return f"{script} {name}" + ("" if default else f" --home {settings.home.root}")


def _sandboxes(settings: Settings) -> list[str]:
    """What runs the apps' code here, and what that protects against."""
    chosen = backend(settings)
    try:
        isolation = chosen.settled()
        in_force, missing = chosen.protection()
        obstacle = _obstacle_to_containers(chosen) if isolation == Isolation.PROCESS else ""
    finally:
        chosen.close()
    lines = [f"  Sandboxes ({isolation}): {'; '.join(in_force)}."]
    if missing:
        lines.append(f"  Missing: {'; '.join(missing)}.")
    if isolation == Isolation.PROCESS:
        lines += [
            "  This contains accidents; it is no boundary against hostile code. Containers hold more.",
            f"  They are not used: {obstacle}.",
            f"  With Docker and its images ({_command('images build', settings)}), start again.",
        ]
    return lines


def _obstacle_to_containers(chosen: ByIsolation) -> str:
    """Why this machine's pools do not run in containers."""
    try:
        chosen.container_image(DEFAULT_IMAGE)
    except BackendError as error:
        return str(error)
    return "the setting `isolation` is process"
