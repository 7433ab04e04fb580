"""Logging of the daemons: structured, one line per event, readable on a terminal.

Pass context with `extra={"app": …, "commit": …, "requestId": …}`; it becomes fields of the JSON line and
`key=value` pairs of the text line.
"""

import logging
import sys
import time
from typing import Any

import orjson

from uhlp_core.settings import Settings

FIELDS = ("app", "deployment", "commit", "component", "pool", "instance", "requestId", "reason", "seconds")
_COLOURS = {"WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31m"}


class _JsonFormatter(logging.Formatter):
    def __init__(self, daemon: str) -> None:
        super().__init__()
        self._daemon = daemon

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": record.created,
            "level": record.levelname.lower(),
            "daemon": self._daemon,
            "message": record.getMessage(),
        }
        line.update(_context(record))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


class _TextFormatter(logging.Formatter):
    def __init__(self, daemon: str, colour: bool) -> None:
        super().__init__()
        self._daemon = daemon
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        context = " ".join(f"{key}={_short(value)}" for key, value in _context(record).items())
        text = f"{clock} {self._daemon:<9} {record.getMessage()}"
        if context:
            text += f"  \033[2m{context}\033[0m" if self._colour else f"  {context}"
        if self._colour and record.levelname in _COLOURS:
            text = f"{_COLOURS[record.levelname]}{text}\033[0m"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def _context(record: logging.LogRecord) -> dict[str, Any]:
    found = ((name, getattr(record, name, None)) for name in FIELDS)
    return {name: value for name, value in found if value is not None}


def _short(value: Any) -> str:
    text = str(value)
    return text[:7] if len(text) == 40 else text


def set_up_logging(daemon: str, settings: Settings) -> None:
    """Send this process's log to standard error, in the format that the settings ask for."""
    import os

    terminal = sys.stderr.isatty()
    text = settings.log_format == "text" or (settings.log_format == "auto" and terminal)
    colour = terminal and not os.environ.get("NO_COLOR")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TextFormatter(daemon, colour) if text else _JsonFormatter(daemon))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
