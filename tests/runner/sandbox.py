"""A real runner, started by the process backend, and the client that tests talk to it with."""

import asyncio
import itertools
import json
import time
from pathlib import Path
from typing import Any

from support.waiting import eventually
from uhlp_core.home import Home
from uhlp_reconcilers.backends import procfs
from uhlp_reconcilers.backends.process import ProcessBackend
from uhlp_reconcilers.backends.protocol import Instance, InstanceSpec
from uhlp_state.model.mounts import Mount
from uhlp_state.model.pools import DEFAULT_IMAGE, NODE_IMAGE, Isolation, ResourceLimits

MODES = ("interpreter", "fork", "server")
SCRIPTS = {"python": "main.py", "javascript": "main.js"}
"""The languages, and what a script of each is called."""
DEADLINE = 15.0
_numbers = itertools.count(1)


class Sandbox:
    """One instance of one app, and its trees."""

    def __init__(
        self, home: Home, backend: ProcessBackend, app: str, mode: str, language: str = "python"
    ) -> None:
        self.home = home
        self.backend = backend
        self.app = app
        self.mode = mode
        self.language = language
        self.script = SCRIPTS[language]
        self.instance: Instance

    @property
    def log(self) -> Path:
        return self.home.app_log(self.app)

    def tree(self, tree: str, files: dict[str, str]) -> None:
        """Export a revision; paths are relative to its state folder."""
        for name, text in files.items():
            path = self.home.trees / self.app / tree / "state" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    async def start(
        self,
        concurrency: int = 2,
        timeout_seconds: float = 20.0,
        isolation: Isolation = Isolation.AUTO,
        mounts: tuple[Mount, ...] = (),
        env_paths: tuple[Path, ...] = (),
        image: str = "",
        **limits: Any,
    ) -> None:
        spec = InstanceSpec(
            instance=f"i{next(_numbers)}",
            app=self.app,
            deployment=self.app,
            pool="python",
            spec_hash="spec",
            mode=self.mode,
            concurrency=concurrency,
            timeout_seconds=timeout_seconds,
            limits=ResourceLimits.model_validate({"max_processes": 16, **limits}),
            trees=self.home.trees / self.app,
            log=self.log,
            isolation=isolation,
            mounts=mounts,
            env_paths=env_paths,
            image=image or (NODE_IMAGE if self.language == "javascript" else DEFAULT_IMAGE),
        )
        self.instance = await self.backend.ensure(spec)
        await eventually(lambda: (self.instance.dir / "execute.sock").exists(), "execute.sock")
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            try:
                status, _ = await self.ask("GET", "/readyz")
            except ConnectionRefusedError:
                continue
            assert status == 200
            return

    async def ask(
        self, method: str, path: str, body: Any = None, socket: str = "execute.sock", headers: str = ""
    ) -> tuple[int, Any]:
        """One request on a connection of its own: status and parsed body."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: runner\r\n{headers}Content-Length: {len(data)}\r\n\r\n"
        status, _, answer = await self.raw(head.encode() + data, socket)
        return status, answer

    async def raw(self, message: bytes, socket: str = "execute.sock") -> tuple[int, dict[str, str], Any]:
        """Send bytes as they are: status, headers and parsed body."""
        reader, writer = await asyncio.open_unix_connection(self.instance.dir / socket, limit=1 << 26)
        try:
            writer.write(message)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            answer = await reader.readexactly(int(headers["content-length"]))
            return int(head[0].split()[1]), headers, json.loads(answer)
        finally:
            writer.close()

    async def prepare(self, tree: str, script: str, *functions: str) -> tuple[int, Any]:
        components = [{"componentId": name, "script": script, "function": name} for name in functions]
        return await self.ask("POST", "/prepare", {"tree": tree, "components": components})

    async def execute(
        self,
        function: str,
        tree: str = "t1",
        script: str | None = None,
        data: dict[str, Any] | None = None,
        request_id: str | None = None,
        **context: Any,
    ) -> tuple[int, Any]:
        """Run a handler through `execute.sock`."""
        script = script or self.script
        return await self.ask(
            "POST", "/execute", request(function, tree, script, data, request_id, **context)
        )

    def lines(self, **wanted: Any) -> list[dict[str, Any]]:
        """The log's lines that have these values."""
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in found if all(line.get(name) == value for name, value in wanted.items())]

    def processes(self) -> list[int]:
        """The processes of the app's own user, zombies left out."""
        uid = self.instance.dir.stat().st_gid
        return [
            process.pid
            for process in procfs.everything()
            if process.state not in "ZX" and owner(process.pid) == uid
        ]


def owner(pid: int) -> int | None:
    """The user of a process; None if it has ended since it was found."""
    try:
        return (procfs.PROC / str(pid)).stat().st_uid
    except FileNotFoundError:
        return None


def request(
    function: str,
    tree: str = "t1",
    script: str = "main.py",
    data: dict[str, Any] | None = None,
    request_id: str | None = None,
    **context: Any,
) -> dict[str, Any]:
    """The body of `POST /execute`."""
    return {
        "requestId": request_id or f"request-{next(_numbers)}",
        "requestData": {"source": "http", **(data or {})},
        "context": {
            "tree": tree,
            "revision": "c" * 40,
            "componentId": function,
            "taskDetails": {"script": script, "function": function},
            **context,
        },
    }
