"""The tool `core.linux.executeCommand` (specification 10.2): what may run, with which arguments, for whom."""

import asyncio
import base64
import binascii
import os
from pathlib import PurePosixPath
from typing import Any

from uhlp_core.errors import InvalidInput
from uhlp_core.home import Home
from uhlp_mcp.background import Background
from uhlp_mcp.commands import web
from uhlp_mcp.commands.arguments import GRAMMARS
from uhlp_mcp.commands.program import ProgramRefused, open_program
from uhlp_mcp.commands.running import Limits, run
from uhlp_mcp.egress import Egress
from uhlp_mcp.schema import INTEGER, of, text
from uhlp_mcp.served import Served
from uhlp_mcp.tools import Caller, Tool
from uhlp_mcp.turns import Turns
from uhlp_state.model.commands import MAX_COMMAND_SECONDS, AllowedCommand

MAX_ARGUMENTS = 64
MAX_ARGUMENT = 64 * 1024
MAX_STDIN = 4 * 1024 * 1024
"""Characters; base64 makes 3 MiB of them."""

MAX_AT_ONCE = 16
"""Programs that run at the same time; more of them wait. Each is a process or several."""

MAX_OF_APP = 4
"""Of one app: a program may run for two minutes, and another app's must not have to wait for it."""

_ENCODING = {"enum": ["utf-8", "base64"]}


class LinuxTools:
    """The handler of the tool."""

    def __init__(self, home: Home, served: Served, egress: Egress) -> None:
        self._home = home
        self._served = served
        self._egress = egress
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._turns = Turns()
        self._ending = Background()

    def tools(self) -> tuple[Tool, ...]:
        return (
            Tool(
                "core.linux.executeCommand",
                "Run a program that this app's `commands` allow: no shell, no files, no environment. "
                "It reads stdin, and ends after timeoutSeconds.",
                of(
                    {"command": text(255, 1, description="Absolute path, as in commands.allowed.")},
                    {
                        "args": {
                            "type": "array",
                            "maxItems": MAX_ARGUMENTS,
                            "items": text(MAX_ARGUMENT, pattern="^[^\u0000]*$"),
                        },
                        "stdin": text(MAX_STDIN),
                        "stdinEncoding": _ENCODING,
                        "timeoutSeconds": {
                            "type": "number",
                            "exclusiveMinimum": 0,
                            "maximum": MAX_COMMAND_SECONDS,
                        },
                    },
                ),
                of(
                    {
                        "exitCode": INTEGER,
                        "stdout": {"type": "string"},
                        "stderr": {"type": "string"},
                        "encoding": {
                            **_ENCODING,
                            "description": "Of stdout and stderr: base64 where one of them is not UTF-8.",
                        },
                        "durationMs": {"type": "number"},
                    }
                ),
                self._execute,
                open_world=True,
            ),
        )

    async def close(self) -> None:
        """Wait until nothing of a program is left; to be called when no call is under way any more."""
        await self._ending.finish()

    async def _execute(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        config = (await self._served.governing(caller.deployment)).definition.commands
        command = config.find(given["command"])
        if command is None:
            listed = ", ".join(allowed.path for allowed in config.allowed) or "none"
            raise ProgramRefused(
                f"{given['command'][:100]!r} is not among the programs that {caller.app} allows: {listed}"
            )
        seconds = min(given.get("timeoutSeconds", config.timeout_seconds), config.timeout_seconds)
        limits = Limits(seconds, config.memory_bytes, config.max_processes, config.max_output_bytes)
        arguments = await self._arguments(caller.app, command, given.get("args", []), limits)
        stdin = _bytes(given.get("stdin", ""), given.get("stdinEncoding", "utf-8"))
        program = open_program(command.path)
        try:
            async with self._turns.one(caller.app, MAX_OF_APP), self._slots:
                done = await run(
                    program,
                    [command.path, *arguments],
                    stdin,
                    limits,
                    hidden=self._home.root,
                    folder=self._home.run / "x",
                    network=PurePosixPath(command.path).name == "curl",
                    ending=self._ending,
                )
        finally:
            os.close(program)
        return {
            "exitCode": done.exit_code,
            **_texts(done.stdout, done.stderr),
            "durationMs": round(done.seconds * 1000, 1),
        }

    async def _arguments(
        self, app: str, command: AllowedCommand, given: list[str], limits: Limits
    ) -> list[str]:
        """What it is run with; a program that the operator added gets what it is given."""
        name = PurePosixPath(command.path).name
        if name == "curl":
            return await web.checked(
                app, given, command.hosts, limits.seconds, limits.output_bytes, self._egress
            )
        grammar = GRAMMARS.get(name)
        return given if grammar is None else grammar.checked(name, given)


def _bytes(data: str, encoding: str) -> bytes:
    if encoding == "utf-8":
        return data.encode(errors="surrogatepass")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise InvalidInput("stdin is not Base64, as stdinEncoding says") from None


def _texts(stdout: bytes, stderr: bytes) -> dict[str, str]:
    try:
        return {"stdout": stdout.decode(), "stderr": stderr.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {
            "stdout": base64.b64encode(stdout).decode(),
            "stderr": base64.b64encode(stderr).decode(),
            "encoding": "base64",
        }
