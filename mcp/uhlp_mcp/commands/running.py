"""Runs one program to its end, with bounded input, output and time; nothing of it is ever left."""

import asyncio
import contextlib
import secrets
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uhlp_core.errors import UhlpError
from uhlp_mcp.background import Background
from uhlp_mcp.commands.shut_in import NOT_CONFINED, NOT_STARTED, Confinement, start, told

COMMAND_UID = 199_999
"""The user that programs run as where the daemon is root: nobody's, just below those of the apps."""

TMP_BYTES = 32 << 20
"""What a program may write, in its own temporary folder. It counts as memory and is gone with it."""

START_SECONDS = 5.0
"""For shutting it in, beyond the program's own time, which the runner counts from its start."""

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
    ending: Background,
) -> Completed:
    """Run the open `program`; `arguments` begin with its name.

    Args:
        hidden: the platform's home, which it does not see.
        folder: where its own folder is made.
        network: whether it keeps the host's network.
        ending: ends it, also when the caller is cancelled meanwhile.

    Raises:
        CommandFailed: COMMAND_TIMED_OUT, COMMAND_OUTPUT_LIMIT, COMMAND_NOT_CONFINED, COMMAND_NOT_STARTED.
    """
    own = folder / secrets.token_hex(8)
    began = time.monotonic()
    try:
        process = await start(program, arguments, _confinement(limits, own, hidden, network))
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise
    try:
        async with asyncio.timeout(limits.seconds + START_SECONDS):
            stdout, stderr, code = await _communicate(process, stdin, limits.output_bytes)
    except TimeoutError:
        raise _timed_out(arguments[0], limits) from None
    finally:
        await asyncio.shield(ending.start(_end(process, own)))
    seconds = time.monotonic() - began
    # The second is the limit of CPU time, which a program with several threads reaches first.
    if code in (-signal.SIGALRM, 128 + signal.SIGXCPU):
        raise _timed_out(arguments[0], limits)
    if code == NOT_CONFINED and not stdout:
        raise CommandFailed(told(stderr.decode(errors="replace")), code="COMMAND_NOT_CONFINED")
    if code == NOT_STARTED and not stdout:
        raise CommandFailed(told(stderr.decode(errors="replace")), code="COMMAND_NOT_STARTED")
    return Completed(code, stdout, stderr, seconds)


def _timed_out(name: str, limits: Limits) -> CommandFailed:
    return CommandFailed(
        f"{name} took more than {limits.seconds:g} s, of time or of the processor's, and was killed; "
        "give it less to do, or raise timeoutSeconds",
        code="COMMAND_TIMED_OUT",
    )


async def _end(process: asyncio.subprocess.Process, own: Path) -> None:
    # The kernel then ends all that it has started: see program_run.
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    # To the end of its pipes, which the last of its processes closes.
    assert process.stdin is not None
    process.stdin.close()
    await process.communicate()
    shutil.rmtree(own, ignore_errors=True)


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


def _confinement(limits: Limits, own: Path, hidden: Path, network: bool) -> Confinement:
    return Confinement(
        COMMAND_UID,
        own,
        hidden,
        network=network,
        memory_bytes=limits.memory_bytes,
        max_processes=limits.max_processes,
        cpu_seconds=int(limits.seconds) + 1,
        timeout_seconds=limits.seconds,
        tmp_bytes=TMP_BYTES,
    )
