"""The door for the Git hooks: validates pushes while they are in quarantine, and tells how they roll out.

Listens on `run/receive.sock`; the protocol is in docs/architecture.md. The judgement itself is
`uhlp_state.receive`; this file only keeps it warm and speaks with the hooks.
"""

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from typing import Any

import orjson

from uhlp_core.ids import PLATFORM_APP, Deployment
from uhlp_core.settings import Settings
from uhlp_reconcilers.registry import Registry
from uhlp_reconcilers.rollouts import Progress, Rollouts
from uhlp_state.parse_cache import ParseCache
from uhlp_state.receive import ZERO_ID, RefUpdate, judge

log = logging.getLogger(__name__)

MAX_REQUEST = 4 * 1024 * 1024
"""A push of ten thousand refs fits; nothing sensible is larger."""

QUIET_SECONDS = 0.5
"""Steps of a rollout that is faster than this would only flicker past."""

_BRANCH = "refs/heads/"
_REMEMBERED_STARTS = 256


class ReceiveDoor:
    """Answers pre-receive and post-receive hooks."""

    def __init__(self, settings: Settings, registry: Registry, rollouts: Rollouts, cache: ParseCache) -> None:
        self._settings = settings
        self._registry = registry
        self._rollouts = rollouts
        self._cache = cache
        self._started: dict[str, float] = {}

    async def serve(self, stop: asyncio.Event) -> None:
        """Listen until `stop`; connections under way are finished by their own time limits."""
        path = self._settings.home.receive_socket
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        server = await asyncio.start_unix_server(self._connection, path, limit=MAX_REQUEST)
        path.chmod(0o600)
        async with server:
            await stop.wait()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if not line:
                return  # Somebody only looked whether the door is open.
            request = orjson.loads(line)
            handle = self._pre_receive if request["op"] == "pre-receive" else self._post_receive
            code = await handle(request, writer)
            writer.write(orjson.dumps({"exit": code}) + b"\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The pusher went away; Git decides what becomes of the push.
        except Exception:
            log.exception("a hook's request failed")
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _pre_receive(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> int:
        started = time.monotonic()
        repo = Path(request["repo"])
        judgement = await asyncio.to_thread(
            judge,
            repo,
            [RefUpdate(*update) for update in request["updates"]],
            Path(request["objects"]) if request["objects"] else None,
            [Path(folder) for folder in request["alternates"]],
            self._cache,
            self._registry.platform,
        )
        for line in judgement.lines:
            _say(writer, line)
        if judgement.accepted:
            for _, new, _ in request["updates"]:
                self._started[new] = started
            while len(self._started) > _REMEMBERED_STARTS:
                self._started.pop(next(iter(self._started)))
        else:
            log.warning("refused a push by %s", request.get("pusher") or "unknown", extra={"app": repo.stem})
        return 0 if judgement.accepted else 1

    async def _post_receive(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> int:
        app = Path(request["repo"]).stem
        log.info("pushed by %s", request.get("pusher") or "unknown", extra={"app": app})
        await self._registry.discover(app)
        wait = min(float(request["wait"]), self._settings.push_wait_seconds)
        deadline = time.monotonic() + wait
        for _, new, ref in request["updates"]:
            if not ref.startswith(_BRANCH) or new == ZERO_ID or app == PLATFORM_APP:
                continue
            deployment = Deployment.of_branch(app, ref.removeprefix(_BRANCH))
            if deployment is None:
                _say(
                    writer,
                    f"· kept {ref.removeprefix(_BRANCH)}; only main, preview/* and proposals/** are served",
                )
            elif wait > 0:
                await self._tell_rollout(deployment, new, deadline, writer)
        return 0

    async def _tell_rollout(
        self, deployment: Deployment, commit: str, deadline: float, writer: asyncio.StreamWriter
    ) -> None:
        """Print how a commit comes into force, until it is or the deadline has passed."""
        started = self._started.pop(commit, time.monotonic())
        last = Progress(done=False, live=False, message="waiting for the registry")
        follow = self._rollouts.follow(deployment.id, commit, deadline - time.monotonic())
        async with contextlib.aclosing(follow):
            async for last in follow:
                if not last.done and time.monotonic() - started > QUIET_SECONDS:
                    _say(writer, f"· {last.message}")
                    await writer.drain()
        seconds = time.monotonic() - started
        if last.live:
            note = f" ({last.message})" if last.message else ""
            _say(writer, f"✔ live at {self._settings.app_url(deployment)} in {seconds:.2f} s{note}")
        elif last.done:
            _say(writer, f"✘ not live: {last.message}")
            _say(writer, "  what was served before goes on being served; mend it and push again")
        else:
            _say(writer, f"… not live after {seconds:.0f} s, still trying: {last.message}")
            _say(writer, f"  the push is stored; see `uhlp status {deployment.app}`")


def _say(writer: asyncio.StreamWriter, line: str) -> None:
    writer.write(orjson.dumps({"line": line}) + b"\n")
