"""A server that is a program of this machine: shut in, with messages as lines over its standard streams."""

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from uhlp_mcp.commands.program import open_program
from uhlp_mcp.commands.shut_in import Confinement, start, told
from uhlp_mcp.community.connection import MESSAGE, Connection
from uhlp_mcp.intake import LINES, Intake, TooMuch

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client._transport import TransportStreams
    from mcp.shared.message import SessionMessage

FIRST_UID, UIDS = 150_000, 49_000
"""The users that servers run as where the daemon is root: nobody's, below those of programs and apps."""

TMP_BYTES = 256 << 20
"""Of a server's temporary folder, and of one file that it writes."""

MAX_OPEN_FILES = 256

ADDRESS_SPACE = 1 << 40
"""Node.js and its like reserve tens of gigabytes that they never touch."""

READ_BYTES = 64 * 1024
"""Of its standard output at a time; the stream holds twice as much before it stops reading."""

STDERR_BYTES = 4096
"""What is kept of what it says beside the protocol: for the reason why it ended."""

END_SECONDS = 2.0
"""From the end of its input until it is killed."""

_CONTINUATION = bytes(range(0x80, 0xC0))
"""Bytes of a character in UTF-8 that are not its first."""

_log = logging.getLogger(__name__)


def user_of(deployment: str, server: str) -> int:
    """A server's user, always the same. Two may share one by chance: then spaces and Landlock part them."""
    digest = hashlib.sha256(f"{deployment} {server}".encode()).digest()
    return FIRST_UID + int.from_bytes(digest[:8]) % UIDS


class StdioTransport:
    """One run of the program, as a transport of the SDK's client."""

    def __init__(self, connection: Connection, folder: Path, hidden: Path, intake: Intake) -> None:
        """`folder` is the server's own and stays; `hidden` is the platform's home."""
        self._connection = connection
        self._intake = intake
        self._folder = folder
        self._hidden = hidden
        self._said = bytearray()
        self._tasks: list[asyncio.Task[None]] = []
        self._process: asyncio.subprocess.Process | None = None
        self.ended = asyncio.Event()

    @property
    def why(self) -> str:
        """How it ended, with its own last words."""
        code = self._process.returncode if self._process is not None else None
        words = told(self._words())
        return f"it ended with code {code}" + (f" and said: {words}" if words else "")

    @property
    def pid(self) -> int | None:
        """The process whose end is the end of all of it."""
        return self._process.pid if self._process is not None else None

    async def __aenter__(self) -> "TransportStreams":
        import anyio
        from mcp.shared.message import SessionMessage

        self._process = await self._start()
        incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        heard = asyncio.create_task(self._listen(self._process))
        self._tasks = [
            heard,
            asyncio.create_task(self._read(self._process, incoming, heard)),
            asyncio.create_task(self._write(self._process, outgoing)),
        ]
        return read, write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None and process.stdin is not None
        try:
            process.stdin.close()
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            # The kernel then ends all that it has started: see program_run.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            # To the end of its pipes, which the last of its processes closes.
            await process.communicate()

    def _words(self) -> str:
        """What is kept of what it said, without secrets."""
        if len(self._said) < STDERR_BYTES:
            return self._connection.redacted(self._said.decode(errors="replace"))
        # The beginning is lost, which may be half a character, or half a secret.
        return self._connection.redacted_end(self._said.lstrip(_CONTINUATION).decode(errors="replace"))

    async def _start(self) -> asyncio.subprocess.Process:
        allowed = self._connection.program
        assert allowed is not None, "a server at an address has another transport"
        command = allowed.command
        confinement = Confinement(
            user_of(self._connection.deployment, self._connection.name),
            self._folder,
            self._hidden,
            network=allowed.network,
            memory_bytes=allowed.memory_bytes,
            max_processes=allowed.max_processes,
            cpu_seconds=0,
            timeout_seconds=0,
            tmp_bytes=TMP_BYTES,
            max_open_files=MAX_OPEN_FILES,
            address_space=ADDRESS_SPACE,
            readable=allowed.folders,
            variables=self._connection.variables,
            keeps_files=True,
        )
        # The operator's own path may be a link, such as a virtual environment's interpreter.
        path = os.path.realpath(command[0])  # noqa: ASYNC240 - a few microseconds
        program = open_program(path)
        try:
            return await start(
                program,
                [*command, *self._connection.arguments],
                confinement,
                line_bytes=READ_BYTES,
            )
        finally:
            os.close(program)

    async def _read(
        self,
        process: asyncio.subprocess.Process,
        incoming: "MemoryObjectSendStream[SessionMessage | Exception]",
        heard: asyncio.Task[None],
    ) -> None:
        import anyio
        from mcp.shared.message import SessionMessage
        from mcp.types import jsonrpc_message_adapter

        assert process.stdout is not None
        async with incoming:
            told = False
            lines = self._intake.messages(self._connection.app, _pieces(process.stdout), LINES, MESSAGE)
            try:
                async for line in lines:
                    try:
                        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                    except ValueError:
                        # Not told further, nor more than once: what it prints may be anything.
                        if not told:
                            _log.info("%s printed a line that is no message", self._connection.label)
                        told = True
                        continue
                    await incoming.send(SessionMessage(message))
            except TooMuch as error:
                self._said += f"\na line on its standard output that is not read: {error}".encode()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                pass
            finally:
                await lines.aclose()
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                # Only then do its callers learn of the end: with the reason.
                await asyncio.wait({heard}, timeout=END_SECONDS)
                self.ended.set()

    async def _write(
        self, process: asyncio.subprocess.Process, outgoing: "MemoryObjectReceiveStream[SessionMessage]"
    ) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            async with outgoing:
                async for sent in outgoing:
                    text = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(text.encode() + b"\n")
                    await process.stdin.drain()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while chunk := await process.stderr.read(STDERR_BYTES):
            self._said = (self._said + chunk)[-STDERR_BYTES:]


async def _pieces(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await stream.read(READ_BYTES):
        yield piece
