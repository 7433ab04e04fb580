"""An app's log file: its last lines, its new ones, and each line in a form that people read.

Every line is a JSON object (docs/architecture.md); what cannot be read as one is shown as it stands.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from uhlp_cli.output import clean, clock, short

POLL_SECONDS = 0.2
"""How late a followed line may be shown."""

LEVELS = ("debug", "info", "warning", "error", "critical")
_TOLD_APART = frozenset({"ts", "level", "stream", "component", "message", "requestId", "app", "traceback"})
_NOISE = frozenset({"pool", "tree", "daemon", "method", "path", "status", "durationMs", "bytes"})
"""Fields that the message says already, or that a reader seldom needs; `--json` shows them."""

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """What of a log is asked for; None lets everything through."""

    component: str | None = None
    request_id: str | None = None
    """Those that it caused count as the request: their ids are its own, a dot and more."""
    pool: str | None = None
    instance: str | None = None
    level: str | None = None
    """The least severe level that is shown."""

    def __call__(self, fields: Fields) -> bool:
        exact = {"component": self.component, "pool": self.pool, "instance": self.instance}
        if any(value is not None and fields.get(name) != value for name, value in exact.items()):
            return False
        if self.request_id is not None:
            found = str(fields.get("requestId"))
            if found != self.request_id and not found.startswith(f"{self.request_id}."):
                return False
        return self.level is None or _severity(fields.get("level")) >= _severity(self.level)


def parse(raw: bytes) -> Fields:
    """The fields of one line."""
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"message": raw.decode(errors="replace").rstrip("\n")}


def last(path: Path, count: int, wanted: Callable[[Fields], bool]) -> tuple[list[Fields], int]:
    """The last `count` wanted lines, and the position behind the last complete line that was read.

    A rotated file beside it (`app.log.1`) is read first. A missing file has no lines.
    """
    kept: deque[Fields] = deque(maxlen=count)
    position = 0
    for file in (path.with_name(f"{path.name}.1"), path):
        position = 0
        lines = _opened(file)
        if lines is None:
            continue
        with lines:
            for raw in lines:
                if not raw.endswith(b"\n"):
                    break
                position += len(raw)
                if wanted(fields := parse(raw)):
                    kept.append(fields)
    return list(kept), position


def follow(path: Path, position: int, wanted: Callable[[Fields], bool]) -> Iterator[Fields]:
    """Every wanted line from `position` on, for ever; goes on in the new file after a rotation."""
    while True:
        file = _opened(path)
        if file is None:
            time.sleep(POLL_SECONDS)
            position = 0
            continue
        with file:
            file.seek(position)
            yield from (fields for raw in _lines_until_replaced(file, path) if wanted(fields := parse(raw)))
        position = 0


def _opened(path: Path) -> BinaryIO | None:
    """None where there is no such file, as in the moment of a rotation."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _lines_until_replaced(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Complete lines of `file`, waiting for more until another file has its name or it was cut short."""
    rest = b""
    while True:
        # Asked before reading: lines that were written up to a rotation are read before it is believed.
        replaced = _was_replaced(file, path)
        chunk = file.read(1 << 16)
        if chunk:
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        elif replaced:
            return
        else:
            time.sleep(POLL_SECONDS)


def _was_replaced(file: BinaryIO, path: Path) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return True
    opened = os.fstat(file.fileno())
    return (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino) or now.st_size < file.tell()


def readable(fields: Fields) -> str:
    """One line for people; what the app wrote cannot contain terminal control codes."""
    head = [_time(fields.get("ts")), f"{fields.get('level', 'info')!s:<7}"]
    if source := fields.get("component") or fields.get("stream"):
        head.append(str(source))
    text = f"{' '.join(head)}  {fields.get('message', '')}"
    details = {key: value for key, value in fields.items() if key not in _TOLD_APART | _NOISE}
    if fields.get("deployment") == fields.get("app"):
        details.pop("deployment", None)
    if "requestId" in fields:
        details["request"] = fields["requestId"]
    shown = " ".join(f"{key}={_value(key, value)}" for key, value in details.items() if value is not None)
    lines = f"{text}  {shown}" if shown else text
    if fields.get("traceback"):
        lines += f"\n{fields['traceback']}"
    return "\n    ".join(clean(line) for line in lines.splitlines())


def _severity(level: object) -> int:
    return LEVELS.index(level) if isinstance(level, str) and level in LEVELS else LEVELS.index("info")


def _time(moment: object) -> str:
    if isinstance(moment, str):
        try:
            return clock(datetime.fromisoformat(moment).timestamp())
        except ValueError:
            return moment
    return clock(moment) if isinstance(moment, int | float) else "-"


def _value(key: str, value: object) -> str:
    return short(str(value)) if key == "commit" else str(value)
