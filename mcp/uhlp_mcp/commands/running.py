"""Runs one program shut in, with bounded input, output and time; whatever happens, nothing of it is left."""

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uhlp_core.errors import UhlpError

COMMAND_UID = 199_999
"""The user that programs run as where the daemon is root: nobody's, just below those of the apps."""

TMP_BYTES = 32 << 20
"""What a program may write, in its own temporary folder. It counts as memory and is gone with it."""

_INTERPRETER = os.path.realpath(sys.executable)
"""Not a virtual environment's link to it: it is run where the link is not to be seen."""

START_SECONDS = 5.0
"""For shutting it in, beyond the program's own time."""

CHUNK = 65536


class CommandFailed(UhlpError):
    """The program did not come to its own end; `code` says how."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one run."""

    seconds: float
    memory_bytes: int
    max_processes: int
    output_bytes: int
    """Of the standard output, and of the standard error."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How it ended."""

    exit_code: int
    """128 and the signal's number where a signal ended it."""
    stdout: bytes
    stderr: bytes
    seconds: float


async def run(
    program: int,
    arguments: Sequence[str],
    stdin: bytes,
    limits: Limits,
    *,
    hidden: Path,
    folder: Path,
    network: bool,
) -> Completed:
    """Run the open `program`; `arguments` begin with its name.

    Args:
        hidden: the platform's home, which it does not see.
        folder: where its own folder is made.
        network: whether it keeps the host's network.

    Raises:
        CommandFailed: COMMAND_TIMED_OUT, COMMAND_OUTPUT_LIMIT, COMMAND_NOT_CONFINED, COMMAND_NOT_STARTED.
    """
    own = folder / secrets.token_hex(8)
    own.mkdir(mode=0o700, parents=True)
    config = os.memfd_create("uhlp-command", os.MFD_CLOEXEC)
    began = time.monotonic()
    try:
        if os.geteuid() == 0:
            os.chown(own, COMMAND_UID, COMMAND_UID)
        os.write(config, json.dumps(_config(limits, own, hidden, network)).encode())
        process = await asyncio.create_subprocess_exec(
            _INTERPRETER,
            "-I",
            "-S",
            _runner_folder(),
            "--config",
            f"/proc/self/fd/{config}",
            "--run",
            str(program),
            "--",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(config, program),
            env={},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(limits.seconds + START_SECONDS):
                stdout, stderr, code = await _communicate(process, stdin, limits.output_bytes)
        except TimeoutError:
            raise CommandFailed(
                f"{arguments[0]} ran for more than {limits.seconds:g} s and was killed",
                code="COMMAND_TIMED_OUT",
            ) from None
        finally:
            # The kernel then ends all that it has started: see program_run.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    finally:
        os.close(config)
        shutil.rmtree(own, ignore_errors=True)
    seconds = time.monotonic() - began
    if code == _NOT_CONFINED and not stdout:
        raise CommandFailed(_told(stderr), code="COMMAND_NOT_CONFINED")
    if code == _NOT_STARTED and not stdout:
        raise CommandFailed(_told(stderr), code="COMMAND_NOT_STARTED")
    return Completed(code, stdout, stderr, seconds)


_NOT_CONFINED, _NOT_STARTED = 125, 126
"""As `uhlp_runner.program_run` ends."""


async def _communicate(
    process: asyncio.subprocess.Process, stdin: bytes, limit: int
) -> tuple[bytes, bytes, int]:
    assert process.stdin and process.stdout and process.stderr
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_feed(process.stdin, stdin))
            stdout = group.create_task(_read(process.stdout, limit))
            stderr = group.create_task(_read(process.stderr, limit))
            code = group.create_task(process.wait())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return stdout.result(), stderr.result(), code.result()


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    # It need not read all, or anything, of its input.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
        stream.close()


async def _read(stream: asyncio.StreamReader, limit: int) -> bytes:
    data = bytearray()
    while chunk := await stream.read(CHUNK):
        data += chunk
        if len(data) > limit:
            raise CommandFailed(
                f"its output is more than {limit} bytes; it was killed", code="COMMAND_OUTPUT_LIMIT"
            )
    return bytes(data)


def _told(stderr: bytes) -> str:
    return stderr.decode(errors="replace").strip()[-500:]


def _config(limits: Limits, own: Path, hidden: Path, network: bool) -> dict[str, object]:
    """A configuration of `uhlp_runner`; see docs/architecture.md, "The runner's doors"."""
    uid = COMMAND_UID if os.geteuid() == 0 else None
    return {
        "app": "",
        "deployment": "",
        "pool": "",
        "instance": own.name,
        "mode": "interpreter",
        "language": "python",
        "node": "",
        "concurrency": 1,
        "trees": str(own),
        "dir": str(own),
        "environment": [],
        "libraries": [],
        "templating": [],
        "limits": {
            "memoryBytes": limits.memory_bytes,
            "cpuSeconds": int(limits.seconds) + 1,
            "timeoutMs": 0,
            "maxProcesses": limits.max_processes,
            "maxOutputBytes": limits.output_bytes,
            "maxOpenFiles": 64,
        },
        "isolation": {
            "uid": uid,
            "gid": uid,
            "network": network,
            "tmpBytes": TMP_BYTES,
            "hidden": [str(hidden)],
        },
    }


def _runner_folder() -> str:
    spec = importlib.util.find_spec("uhlp_runner")
    if spec is None or not spec.submodule_search_locations:
        raise CommandFailed("the package uhlp_runner is not installed; install uhlp again")
    return spec.submodule_search_locations[0]
