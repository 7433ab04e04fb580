"""Runs jobs in a few processes that can be ended, one job of an app at a time: no app holds up the others.

What a program of such a process is made of is in `check_process`.
"""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any
from weakref import WeakValueDictionary

import orjson

PROCESSES = 2
"""At most; each costs some ten megabytes, and none runs before it is needed."""

MAX_LINE_BYTES = 32 * 1024 * 1024
"""Of a job's result: the largest answer, with every character written as an escape, and room."""


class JobFailed(Exception):
    """The job took too long or too much memory, and its process has ended."""


class CheckPool:
    """A pool of processes, which start when they are first needed and again when one ended.

    Each ends with the process that started it, however that ends: its standard input does.
    """

    def __init__(self, program: str) -> None:
        """`program` is the module that runs in each; it calls `check_process.serve`."""
        self._program = program
        self._slots = asyncio.Semaphore(PROCESSES)
        self._idle: list[Process] = []
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, app: str, job: str, **arguments: Any) -> Any:
        """The result of one of the program's jobs, called with `arguments`.

        Raises JobFailed, and TypeError for arguments that are nested too deeply to be written as JSON.
        """
        line = orjson.dumps({"job": job, "with": arguments})
        turn = self._turns.setdefault(app, asyncio.Lock())
        async with turn, self._slots:
            process = self._idle.pop() if self._idle else await _start(self._program)
            try:
                result = await _ask(process, line)
            except BaseException:
                # Also when cancelled: an answer that nobody waits for would be taken for the next job's.
                await _end(process)
                raise
            self._idle.append(process)
            return result

    async def close(self) -> None:
        """End the processes that are idle; those at work end with their callers."""
        while self._idle:
            await _end(self._idle.pop())


async def _start(program: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-m", program),
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
    # To the end of its pipe: else the loop keeps it.
    await process.communicate()
