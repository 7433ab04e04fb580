"""A data folder with hooks, Git clients, and the doors behind them: receive socket and control daemon."""

import asyncio
import json
import os
import socket
import subprocess
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from uhlp_control.server import serve
from uhlp_core import sockets
from uhlp_core.settings import Settings
from uhlp_hooks.install import install_hooks
from uhlp_state.git_repo import create_repo
from uhlp_state.parse_cache import ParseCache
from uhlp_state.receive import RefUpdate, judge

DEFINITION = "appId: {app}\nsandboxPools:\n  pools:\n    - poolName: python\n"
REGISTRY = """\
components:
  - componentId: hello
    handlerType: JIT
    targetPoolName: python
    taskDetails: {script: _jit_code/hello.py, function: handle}
    routeMatcher: {pathPattern: /hello, methods: [GET]}
"""
HANDLER = "def handle(input, context):\n    return {}\n"

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "USER": "tester",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    **{
        f"GIT_{who}_{what}": "tester@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    },
}


def app_files(app):
    """A small valid app."""
    return {
        "state/app_definition.yaml": DEFINITION.format(app=app),
        "state/component_registry.yaml": REGISTRY,
        "state/_jit_code/hello.py": HANDLER,
    }


class World:
    """One data folder."""

    def __init__(self, root: Path, **settings):
        self.settings = Settings.load({}, home_dir=root, **settings)
        self.home = self.settings.home
        self.home.create()
        install_hooks(self.home, 1.0)

    def create(self, app="hello"):
        create_repo(self.home.repo(app), self.home.hooks, self.settings.max_push_bytes)
        return self.home.repo(app)

    def clone(self, folder: Path, app="hello"):
        """A work tree with the first commit of a valid app, not pushed yet."""
        work = Work(folder)
        work.git("init", "--quiet", "--initial-branch=main")
        work.commit(app_files(app))
        return work


class Work:
    """A work tree, and the real Git client in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, *arguments, **environment):
        return subprocess.run(
            ["git", *map(str, arguments)],
            cwd=self.folder,
            env={**ENVIRONMENT, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def git(self, *arguments, **environment):
        done = self.run(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, files, message="change"):
        """Write files (None deletes) and commit; returns the commit."""
        for name, content in files.items():
            path = self.folder / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, target, *refs, **environment):
        return self.run("push", target, *(refs or ("main",)), **environment)


class Receiver:
    """The registry daemon's door, as far as a push needs it: the real judgement behind a real socket."""

    def __init__(self, home):
        self.requests = []
        self._cache = ParseCache()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(home.receive_socket))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                request = json.loads(lines.readline())
                self.requests.append(request)
                for answer in self._answers(request):
                    connection.sendall(json.dumps(answer).encode() + b"\n")

    def _answers(self, request):
        if request["op"] == "post-receive":
            return [{"line": 'live — "at once"'}, {"exit": 0}]
        judgement = judge(
            Path(request["repo"]),
            [RefUpdate(*update) for update in request["updates"]],
            Path(request["objects"]) if request["objects"] else None,
            [Path(folder) for folder in request["alternates"]],
            self._cache,
            None,
        )
        return [*({"line": line} for line in judgement.lines), {"exit": 0 if judgement.accepted else 1}]


@asynccontextmanager
async def control(world):
    """The control daemon on a free port; gives its address."""
    listener = sockets.listen_tcp("127.0.0.1", 0)
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(world.settings, stop, listener))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        await serving


async def fetch(url, method="GET", **options):
    """One HTTP request: status, headers, body."""
    async with aiohttp.ClientSession() as client, client.request(method, url, **options) as answer:
        return answer.status, answer.headers, await answer.read()
