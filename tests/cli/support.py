"""What the tests of the command line share: `uhlp` run in one data folder, clones, and waiting."""

import json
import subprocess
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from uhlp_cli.main import cli
from uhlp_core.home import Home
from uhlp_core.settings import Settings


class Uhlp:
    """Runs `uhlp` in one data folder."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.settings = Settings.load({}, home_dir=home.root)

    def __call__(self, *arguments: str, code: int = 0, stdin: str | None = None) -> Result:
        """Run a command and check its exit code."""
        result = CliRunner().invoke(cli, [*arguments, "--home", str(self.home.root)], input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The same with `--json`: the parsed document."""
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def git(self, app: str, *arguments: str) -> str:
        """A git command on an app's repo."""
        command = ["git", "--git-dir", str(self.home.repo(app)), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip("\n")


class Clone:
    """A work tree of an app, changed and pushed with plain git."""

    def __init__(self, uhlp: Uhlp, app: str, folder: Path) -> None:
        self.folder = folder
        subprocess.run(
            ["git", "clone", "--quiet", str(uhlp.home.repo(app)), str(folder)],
            check=True,
            capture_output=True,
        )

    def commit(self, subject: str, **files: str) -> str:
        """Commit files (name → content, below `state/ui/`) and push; returns the commit."""
        for name, content in files.items():
            path = self.folder / "state" / "ui" / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        self.git("push", "--quiet", "origin", "HEAD")
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(self.folder), *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
