"""Asks a sandbox's runner over its `execute.sock`: is it ready, healthy, can it load this revision.

One short-lived connection per question; requests of users go through the gateway's own client instead.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import orjson

MAX_ANSWER = 1024 * 1024
"""A runner's answer is small; more than this comes from something else on that socket."""


class RunnerUnreachable(Exception):
    """No usable answer: not listening yet, gone, hanging, or not a runner."""


async def ask(
    socket: Path, method: str, path: str, body: Any = None, *, timeout: float
) -> tuple[int, dict[str, Any]]:
    """Return (status, JSON body). Raises RunnerUnreachable."""
    payload = b"" if body is None else orjson.dumps(body)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: runner\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(socket, limit=MAX_ANSWER)
            try:
                writer.write(head.encode() + payload)
                status_line = await reader.readline()
                length = 0
                while (line := await reader.readline()).strip():
                    name, _, value = line.partition(b":")
                    if name.strip().lower() == b"content-length":
                        length = int(value)
                content = await reader.readexactly(min(length, MAX_ANSWER))
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        return int(status_line.split(b" ", 2)[1]), orjson.loads(content) if content else {}
    except TimeoutError:
        raise RunnerUnreachable(f"{path} did not answer within {timeout:g} s") from None
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise RunnerUnreachable(f"{path}: {error or type(error).__name__}") from None
