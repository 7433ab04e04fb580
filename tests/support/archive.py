"""State repos of the apps of an `Office`."""

import subprocess

from support.mcp_office import Office
from uhlp_state.commits import move_branch, stage_commit
from uhlp_state.git_repo import create_repo, heads

FILES = {
    "state/app_definition.yaml": "appId: {app}\nsandboxPools: {{pools: [{{poolName: python}}]}}\n",
    "state/component_registry.yaml": "components: []\n",
    "state/notes/a.txt": "one\n",
}


class Archive:
    """The state repo of one app, with one commit."""

    def __init__(self, office: Office, app: str) -> None:
        self.repo = office.settings.home.repo(app)
        create_repo(self.repo, office.settings.home.hooks, office.settings.max_push_bytes)
        files = {path: text.format(app=app).encode() for path, text in FILES.items()}
        staged = stage_commit(self.repo, None, files, "start")
        staged.write(self.repo)
        assert move_branch(self.repo, "main", None, staged.commit)
        self.start = staged.commit

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "--git-dir", str(self.repo), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    @property
    def unchanged(self) -> bool:
        return heads(self.repo) == {"main": self.start}
