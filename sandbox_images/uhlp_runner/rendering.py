"""The main process's side of the renderer: start it when first needed, ask it, and end it when it hangs."""

import asyncio
import json
import socket
from typing import Any

from . import children, failure, renderer
from .config import Config
from .failure import Failure
from .output import Collector, Label, Log

RENDER_SECONDS = 2.0
"""For one prompt; an ordinary one takes well under a millisecond."""

START_SECONDS = 10.0
"""For the renderer's start: the import of Jinja2, about 0.1 s on an idle machine."""


class RendererLost(Exception):
    """The renderer ended, or did not answer in time and was ended."""


class Rendering:
    """One renderer after the other, asked one thing at a time."""

    def __init__(self, config: Config, log: Log) -> None:
        self._config = config
        self._log = log
        self._turn = asyncio.Lock()
        self._pid = 0
        self._channel: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._outputs: list[Collector] = []

    async def check(self, prompts: list[dict[str, Any]]) -> list[tuple[int | None, str] | None]:
        """What keeps each prompt from being compiled: line and text, or None. Raises RendererLost."""
        answer = await self._ask({"do": "check", "prompts": prompts}, START_SECONDS)
        return [tuple(one) if one else None for one in answer["found"]]

    async def render(self, path: str, prompt: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """The `system` text and the `messages` of the prompt at `path`. Raises Failure, which names that."""
        try:
            answer = await self._ask(
                {"do": "render", "prompt": prompt, "variables": variables}, RENDER_SECONDS
            )
        except RendererLost as lost:
            raise Failure(failure.PROMPT_FAILED, f"{path}: it could not be rendered: {lost}") from None
        if "failure" in answer:
            code, message = answer["failure"]
            raise Failure(code, f"{path}: {message}")
        return answer

    def close(self) -> None:
        """End the renderer."""
        if self._channel is not None:
            self._channel[1].close()
            self._channel = None
            children.kill_group(self._pid)
            children.reap(self._pid)
            for output in self._outputs:
                output.drain()

    async def _ask(self, order: dict[str, Any], seconds: float) -> dict[str, Any]:
        async with self._turn:
            if self._channel is None:
                await self._start()
                seconds += START_SECONDS
            assert self._channel is not None
            reader, writer = self._channel
            try:
                async with asyncio.timeout(seconds):
                    writer.write(renderer.frame(order))
                    await writer.drain()
                    header = await reader.readexactly(renderer.HEADER_BYTES)
                    body = await reader.readexactly(int.from_bytes(header, "little"))
            except TimeoutError:
                self.close()
                raise RendererLost(f"it took longer than {seconds:g} s") from None
            except (OSError, EOFError):
                self.close()
                raise RendererLost(
                    "its process ended; perhaps it needed more memory than its pool has"
                ) from None
            except asyncio.CancelledError:
                self.close()  # The answer that will come is nobody's.
                raise
        answer: dict[str, Any] = json.loads(body)
        return answer

    async def _start(self) -> None:
        own, theirs = socket.socketpair()
        self._outputs = [
            Collector(self._log, stream, Label, lambda size: None) for stream in ("stdout", "stderr")
        ]
        packages, memory = self._config.templating, self._config.limits["memoryBytes"]
        self._pid = children.start(
            lambda: renderer.run(memory, packages),
            [theirs.fileno()],
            self._outputs[0].write_end,
            self._outputs[1].write_end,
        )
        theirs.close()
        for output in self._outputs:
            output.close_write_end()
        self._channel = await asyncio.open_unix_connection(sock=own)
