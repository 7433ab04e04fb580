"""What pip and npm print: made harmless, shortened, and judged."""

import re
from collections import deque

MAX_LINE = 200
"""Characters of a line that are told."""
KEPT_LINES = 200
"""Lines that are remembered: what went wrong stands at the end."""
TOLD_LINES = 6
"""Lines of a failure that are told."""

_ERROR = re.compile(r"\s*(?:ERROR|error|npm (?:ERR!|error))\b")
_OUTSIDE = re.compile(
    r"Retrying \(Retry|Max retries exceeded|NewConnectionError|(?:ConnectTimeout|ReadTimeout|Proxy)Error"
    r"|Temporary failure in name resolution|Connection (?:refused|aborted|reset)|Could not connect"
    r"|HTTP error 5\d\d|\b5\d\d Server Error"
    r"|\b(?:ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|E5\d\d)\b"
)
"""Marks of a network, an index or a registry that is away, as pip and npm name it."""

_CREDENTIALS = re.compile(r"//[^/@\s]+@")
"""In the address of an index."""


class Output:
    """The last lines of an installation."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._rest = b""

    def feed(self, data: bytes) -> str | None:
        """Take what was printed since; the newest whole line of it, if there is one."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-MAX_LINE:]
        lines = [line for raw in whole if (line := _clean(raw))]
        self._lines.extend(lines)
        return lines[-1] if lines else None

    def reasons(self) -> str:
        """Why it failed, in the installer's own words."""
        lines = [*self._lines, *filter(None, [_clean(self._rest)])]
        errors = [line for line in lines if _ERROR.match(line)]
        return "\n".join((errors or lines or ["it ended without a word"])[-TOLD_LINES:])

    def blames_outside(self, details: str) -> bool:
        """Whether by these lines, or by `details`, something that may come back by itself was away."""
        return any(map(_OUTSIDE.search, [*self._lines, details]))


def _clean(raw: bytes) -> str:
    """A line of a program that may be hostile: it must not move a reader's cursor, nor tell a secret."""
    text = raw.decode(errors="replace")
    text = "".join(char if char.isprintable() else " " for char in text).strip()
    return _CREDENTIALS.sub("//***@", text)[:MAX_LINE]
