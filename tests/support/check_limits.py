"""Other limits than the usual for the processes of a `CheckPool`."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process

import pytest

from uhlp_state.json_schema import check_pool

_PROGRAM = """
import runpy, sys
from uhlp_state.json_schema import check_process
check_process.JOB_SECONDS = float(sys.argv[2])
runpy.run_module(sys.argv[1], run_name="__main__")
"""


def limit_jobs(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[Process]:
    """Give each job so many seconds. The list grows with the processes that start."""
    started: list[Process] = []

    async def start(program: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROGRAM, program, str(seconds)), stdin=PIPE, stdout=PIPE
        )
        started.append(process)
        return process

    monkeypatch.setattr(check_pool, "_start", start)
    return started
