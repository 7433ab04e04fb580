"""A whole platform in a folder of its own, and the ways that people use it: git, HTTP, the command line."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.leaks import own_secrets, traces
from support.waiting import DEADLINE, wait_until
from uhlp_core.home import Home
from uhlp_core.tokens import Claims, TokenKey

UHLP = Path(sys.executable).with_name("uhlp")

ON_ONE_BACKEND = pytest.mark.parametrize("isolation", ["process"], indirect=True, scope="session")
"""Marks tests of what is independent of the backend, which need not run on each."""

GIT_ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.invalid",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.invalid",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
}

CANARY = "canary-8f14e45fceea167a5a36dedd4bea2543"
"""The secret `canary`, which every app may use; it must be found nowhere when a platform ends."""


@dataclass(frozen=True)
class Answer:
    """One HTTP response, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def new_folder(prefix: str) -> Path:
    """A short one, since a socket's path has 107 bytes; and not in /tmp, which belongs to handlers."""
    return Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir="/var/tmp"))


def app_files(
    app: str, handler: str, *, mode: str = "fork", pool: str = "", routes: str = ""
) -> dict[str, str]:
    """The files of a small app: one pool, `handle` at GET /, and more routes where given."""
    return {
        "state/app_definition.yaml": (
            f"appId: {app}\ndisplayName: {app}\nversion: '1'\n"
            f"sandboxPools:\n  pools:\n    - poolName: main\n      executionMode: {mode}\n{pool}"
        ),
        "state/component_registry.yaml": (
            "components:\n"
            "  - componentId: root\n    handlerType: JIT\n    targetPoolName: main\n"
            "    taskDetails: {script: _jit_code/root/v1/handler.py, function: handle}\n"
            "    routeMatcher: {pathPattern: /, methods: [GET, POST]}\n" + routes
        ),
        "state/_jit_code/root/v1/handler.py": handler,
    }


def answering(text: str) -> str:
    """The source of a handler that answers a fixed text."""
    return f"def handle(input, context):\n    return {{'answer': {text!r}}}\n"


@dataclass
class Clone:
    """A developer's clone of one state repo."""

    folder: Path
    remote: str

    def git(self, *arguments: str, check: bool = True) -> Done:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **GIT_ENVIRONMENT},
            timeout=60,
        )
        if check and done.returncode:
            raise AssertionError(f"git {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
        return Done(done.returncode, done.stdout, done.stderr)

    def write(self, files: Mapping[str, str]) -> None:
        for path, text in files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

    def commit(self, files: Mapping[str, str] | None = None, message: str = "Change it") -> str:
        """Write, add and commit everything; returns the commit id."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD").out.strip()

    def push(self, *arguments: str) -> Done:
        return self.git("push", *(arguments or ("origin", "HEAD:main")), check=False)

    def deploy(self, files: Mapping[str, str] | None = None, message: str = "Change it") -> str:
        """Commit and push to main; fails unless the pusher is told that it is live."""
        commit = self.commit(files, message)
        pushed = self.push()
        assert pushed.code == 0, pushed.err
        assert "✔ live at" in pushed.err, pushed.err
        return commit


@dataclass
class Platform:
    """`uhlp up` as a process."""

    home: Path = field(default_factory=lambda: new_folder("uh"))
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    work: Path = field(default_factory=lambda: new_folder("uw"))

    # -- life ------------------------------------------------------------------------------------------

    def start(self, *arguments: str) -> None:
        log = (self.work / "up.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [
                    str(UHLP),
                    "up",
                    "--home",
                    str(self.home),
                    "--port",
                    "0",
                    *(arguments or ("--no-examples",)),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.environment,
                start_new_session=True,
            )
        wait_until(self._is_up, "the platform is up")

    def _is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"uhlp up ended:\n{self.log()}")
        if self.state.get("pid") != self.process.pid:
            return False  # What an earlier platform left behind.
        try:
            return self.request("GET", "/readyz").status == 200
        except (OSError, KeyError, ValueError):
            return False

    def await_examples(self) -> None:
        """Wait until every app that the first start makes is served."""

        def are_served() -> bool:
            return all(
                self.request("GET", path, app=app).status == status
                for app, path, status in (
                    ("hello", "/", 200), ("notes", "/", 200), ("summariser", "/api/summaries", 405),
                )
            )  # fmt: skip

        wait_until(are_served, "the examples are pushed")

    def stop(self) -> int:
        """Ctrl-C, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=DEADLINE)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        leaked = self._leaks()
        for folder in (self.home, self.work):
            subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)
            shutil.rmtree(folder, ignore_errors=True)
        assert leaked == [], "secrets were written down"

    def _leaks(self) -> list[str]:
        """Where, of all that was written in this platform's life, a secret stands."""
        if not (self.home / "secrets").is_dir():
            return []
        return traces((self.home, self.work), [CANARY.encode(), *own_secrets(self.home)])

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("UHLP_")}
        chosen = {"UHLP_LOG_FORMAT": "text", "NO_COLOR": "1", "UHLP_ISOLATION": "process"}
        chosen["UHLP_PUSH_WAIT_SECONDS"] = f"{DEADLINE:.0f}"
        chosen |= {"UHLP_SHARED_SECRET_CANARY": CANARY, "UHLP_SECRETS_KEY_FILE": f"{self.work}/secrets.key"}
        return {**clean, **chosen, **self.settings}

    @property
    def state(self) -> dict[str, Any]:
        """What the supervisor wrote down about itself."""
        try:
            found: dict[str, Any] = json.loads((self.home / "run" / "up.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def log(self) -> str:
        return (self.work / "up.log").read_text()

    def pid_of(self, daemon: str) -> int:
        return int(self.state["daemons"][daemon])

    def kill(self, daemon: str) -> None:
        """`kill -9` one daemon and wait until the supervisor has started it again."""
        before = self.pid_of(daemon)
        os.kill(before, signal.SIGKILL)
        wait_until(
            lambda: self.state.get("daemons", {}).get(daemon, before) != before, f"{daemon} is started again"
        )

    # -- doors -----------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        app: str | None = None,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 20,
    ) -> Answer:
        """One request to the gateway; `app` is the host label of an app or a preview."""
        port = self.state["port"]
        host = f"{app}.localhost" if app else "localhost"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers={"Host": f"{host}:{port}", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def answer(self, app: str, path: str = "/") -> Any:
        """The JSON answer of an app that works."""
        found = self.request("GET", path, app=app)
        assert found.status == 200, (found.status, found.body)
        return found.json

    def tool(self, app: str, name: str, /, credential: str = "", **arguments: Any) -> dict[str, Any]:
        """The result of an MCP tool, called as a client from outside; without a credential by a token."""
        token = credential or TokenKey.of(Home(self.home)).sign(Claims(app, app), 60)
        call = {"name": name, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        url = urlsplit(self.state["mcp"])
        connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=20)
        try:
            connection.request(
                "POST",
                f"{url.path}/{app}",
                body=json.dumps(message),
                headers={
                    "Content-Type": "application/json",
                    "Accept": "application/json, text/event-stream",
                    "Authorization": f"Bearer {token}",
                },
            )
            found: dict[str, Any] = json.loads(connection.getresponse().read())["result"]
            return found
        finally:
            connection.close()

    def uhlp(self, *arguments: str, given: str = "") -> Done:
        """Run a command with `given` on its standard input."""
        done = subprocess.run(
            [str(UHLP), *arguments, "--home", str(self.home)],
            input=given,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=60,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def repo(self, app: str) -> Path:
        return self.home / "repos" / f"{app}.git"

    def new_clone(self, app: str, remote: str | None = None) -> Clone:
        """An empty clone whose remote is the app's repo by path (or `remote`)."""
        folder = Path(tempfile.mkdtemp(prefix=f"{app}-", dir=self.work))
        clone = Clone(folder, remote or str(self.repo(app)))
        clone.git("init", "--quiet", "--initial-branch=main")
        clone.git("remote", "add", "origin", clone.remote)
        return clone

    def create(self, app: str, files: Mapping[str, str]) -> Clone:
        """Create an app by its first push over HTTP, live; the clone then pushes by path."""
        clone = self.new_clone(app)
        clone.commit(files, "First commit")
        pushed = clone.push(f"{self.state['control']}/git/{app}.git", "HEAD:main")
        assert pushed.code == 0, pushed.err
        assert "✔ live at" in pushed.err, pushed.err
        clone.git("fetch", "--quiet", "origin")
        return clone
