"""Runs jobs in a few `check_process`es, one job of an app at a time, so that no app holds up the others."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

import orjson

PROCESSES = 2
"""At most; each costs some ten megabytes, and none runs before it is needed."""

MAX_LINE_BYTES = 32 * 1024 * 1024
"""Of a job's result: the largest answer, with every character written as an escape, and room."""


class JobFailed(Exception):
    """The job took too long or too much memory, and its process has ended."""


class Checker:
    """A pool of processes, which start when they are first needed and again when one ended."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(PROCESSES)
        self._idle: list[Process] = []
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, app: str, job: str, **arguments: Any) -> Any:
        """The result of one of `check_process.JOBS`.

        Raises JobFailed, and TypeError for arguments that are nested too deeply to be written as JSON.
        """
        line = orjson.dumps({"job": job, "with": arguments})
        turn = self._turns.setdefault(app, asyncio.Lock())
        async with turn, self._slots:
            process = self._idle.pop() if self._idle else await _start()
            try:
                result = await _ask(process, line)
            except BaseException:
                # Also when cancelled: an answer that nobody waits for would be taken for the next job's.
                await _end(process)
                raise
            self._idle.append(process)
            return result

    async def violations(self, app: str, schema: Mapping[str, Any], value: Any) -> str:
        """How a value breaks a schema of the app's; empty if it conforms."""
        try:
            found: str = await self.run(app, "conformity", value=value, schema=schema)
        except JobFailed as error:
            return f"$: it cannot be held against its schema: {error}"
        except TypeError:
            return "$: it is nested too deeply"  # as orjson says: to be sent on
        return found

    async def close(self) -> None:
        """End the processes that are idle; those at work end with their callers."""
        while self._idle:
            await _end(self._idle.pop())


async def _start() -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-m", "uhlp_mcp.check_process"),
        stdin=PIPE,
        stdout=PIPE,
        env={},
        limit=MAX_LINE_BYTES,
    )


async def _ask(process: Process, line: bytes) -> Any:
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(line + b"\n")
        await process.stdin.drain()
        answer = await process.stdout.readline()
    except (ConnectionError, ValueError):
        answer = b""
    if not answer.endswith(b"\n"):
        raise JobFailed("the check took too long, or more memory than it may have")
    return orjson.loads(answer)


async def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()
