"""The access log: one JSON line per request in the app's log, written behind the requests' backs.

A request only appends to a list. Every FLUSH_SECONDS the lines are formatted and written by a thread, one
write per app, so that neither a slow disk nor a rotated file touches a request.
"""

import asyncio
import logging
from functools import lru_cache
from typing import NamedTuple

import orjson

from uhlp_core.app_log import append
from uhlp_core.home import Home
from uhlp_gateway.problems import printable

FLUSH_SECONDS = 0.25
MAX_LINES = 100_000
"""Lines held between flushes: about five seconds of the highest rate; the rest is counted, not kept."""

CLIENT_GONE = 499
"""Status in log and metrics of a request whose client hung up; nobody gets it sent."""

_log = logging.getLogger(__name__)


class AccessLine(NamedTuple):
    """One answered request."""

    ts: float
    app: str
    deployment: str
    commit: str
    component: str
    request_id: str
    method: str
    path: str
    status: int
    seconds: float
    bytes: int
    detail: str = ""
    """What the client was not told: why a result could not be sent."""


class AccessLog:
    """Collects lines and appends them to `<home>/logs/<app>/app.log`."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lines: list[AccessLine] = []
        self._dropped = 0

    def add(self, line: AccessLine) -> None:
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self._dropped += 1

    async def run(self) -> None:
        """Flush for ever; what is left when cancelled is for a last `flush`."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what has been collected; never raises for a full or missing disk."""
        lines, self._lines = self._lines, []
        dropped, self._dropped = self._dropped, 0
        if dropped:
            _log.warning("%d lines of the access log were dropped: the disk does not keep up", dropped)
        if lines:
            await asyncio.to_thread(self._write, lines)

    def _write(self, lines: list[AccessLine]) -> None:
        by_app: dict[str, list[bytes]] = {}
        for line in lines:
            by_app.setdefault(line.app, []).append(_format(line))
        for app, formatted in by_app.items():
            try:
                append(self._home.app_log(app), b"".join(formatted))
            except OSError as error:
                _log.warning("cannot append to the log: %s", error, extra={"app": app})


def _format(line: AccessLine) -> bytes:
    milliseconds = f"{line.seconds * 1000:.3f}"
    level = "info" if line.status < 500 else "error"
    message = f"{line.method} {line.path} {line.status} {milliseconds} ms"
    # Numbers, ids and methods are safe as they are; a path may hold anything.
    text = (
        f'{{"ts":{line.ts:.6f},"level":"{level}","stream":"access",'
        f"{_names(line.app, line.deployment, line.commit, line.component)},"
        f'"requestId":"{line.request_id}","method":{_quoted(line.method)},"path":{_quoted(line.path)},'
        f'"status":{line.status},"durationMs":{milliseconds},"bytes":{line.bytes},'
        f'"message":{_quoted(message)}'
    )
    if line.detail:
        text += f',"detail":{_quoted(line.detail)}'
    return text.encode() + b"}\n"


@lru_cache(maxsize=4096)
def _names(app: str, deployment: str, commit: str, component: str) -> str:
    """The members that all lines of a component at a commit share."""
    document = {"app": app, "deployment": deployment, "commit": commit, "component": component}
    return orjson.dumps(document)[1:-1].decode()


def _quoted(text: str) -> str:
    """A JSON string; what was not UTF-8 is replaced."""
    try:
        return orjson.dumps(text).decode()
    except TypeError:
        return orjson.dumps(printable(text)).decode()
