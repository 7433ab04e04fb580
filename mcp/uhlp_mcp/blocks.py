"""Results that another server made: blocks of content, and which of their values can carry words."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")

_FORM = {
    "type": re.compile(r"[a-z_]*"),
    "mimeType": re.compile(r"[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+"),
    "data": _BASE64,
    "blob": _BASE64,
}
"""What says of which kind a block is, or is no text. A value that does not look like it counts as words."""

_META = "_meta"
"""The server's own, its keys included."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A result whose content blocks are passed on as another server made them."""

    content: list[dict[str, Any]]
    structured: dict[str, Any] | None
    """The structured content, where there is one."""

    def said(self) -> list[Any]:
        """Every value that can carry words, in order; the structured content is the last one."""
        return [*(value for block in self.content for value in _said(block)), self.structured]

    def saying(self, said: Iterable[Any]) -> Self:
        """The same blocks with other words: as many as `said` returns, in the same order."""
        rest = iter(said)
        return type(self)([_saying(block, rest) for block in self.content], next(rest))


def _said(part: dict[str, Any]) -> Iterator[Any]:
    for key, value in part.items():
        if isinstance(value, dict) and key != _META:
            yield from _said(value)
        elif not _is_form(key, value):
            yield value


def _saying(part: dict[str, Any], rest: Iterator[Any]) -> dict[str, Any]:
    changed = {}
    for key, value in part.items():
        if isinstance(value, dict) and key != _META:
            changed[key] = _saying(value, rest)
        else:
            changed[key] = value if _is_form(key, value) else next(rest)
    return changed


def _is_form(key: str, value: Any) -> bool:
    form = _FORM.get(key)
    return form is not None and isinstance(value, str) and form.fullmatch(value) is not None
