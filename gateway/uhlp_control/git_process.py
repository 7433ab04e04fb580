"""One `git upload-pack` or `git receive-pack` process: its environment, its streams, its end."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal, Self

Service = Literal["git-upload-pack", "git-receive-pack"]

MAX_ERROR_BYTES = 4096
"""Of what Git writes to standard error, kept for the log."""
END_SECONDS = 3.0
"""Between asking Git to end (it removes its locks and its quarantine then) and ending it."""
CHUNK_BYTES = 64 * 1024


class GitProcess:
    """A running process; as a context manager it never outlives its block, nor do its children."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._errors = asyncio.create_task(_collect(process.stderr))

    @classmethod
    async def start(
        cls, service: Service, arguments: list[str], repo: Path, *, protocol: str, pusher: str
    ) -> Self:
        """Start the service on a repo; `protocol` is what the client sent as Git-Protocol."""
        process = await asyncio.create_subprocess_exec(
            "git",
            service.removeprefix("git-"),
            "--stateless-rpc",
            *arguments,
            str(repo),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(protocol, pusher),
            start_new_session=True,
        )
        return cls(process)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            await asyncio.shield(asyncio.create_task(self._end()))
        self._errors.cancel()

    async def write(self, data: bytes) -> None:
        """Hand data to Git, at its pace; what comes after it has ended is dropped."""
        with contextlib.suppress(ConnectionError):
            self._stdin.write(data)
            await self._stdin.drain()

    def close_input(self) -> None:
        """Tell Git that the request is complete."""
        self._stdin.close()

    def abort(self) -> None:
        """Ask Git to end: its output ends soon."""
        self._signal(signal.SIGTERM)

    async def output(self) -> AsyncIterator[bytes]:
        """What Git answers, until its end."""
        while chunk := await self._stdout.read(CHUNK_BYTES):
            yield chunk

    async def result(self) -> tuple[int, str]:
        """Exit code and the last words on standard error."""
        return await self._process.wait(), await self._errors

    async def _end(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


async def _collect(stream: asyncio.StreamReader) -> str:
    kept = b""
    while chunk := await stream.read(CHUNK_BYTES):
        kept = (kept + chunk)[-MAX_ERROR_BYTES:]
    return kept.decode("utf-8", "replace").strip()


def _environment(protocol: str, pusher: str) -> dict[str, str]:
    """Nothing of the user's: no configuration, no credentials, no home."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "REMOTE_USER": pusher,
    }
    if protocol:
        environment["GIT_PROTOCOL"] = protocol
    return environment
