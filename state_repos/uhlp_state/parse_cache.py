"""What was once parsed need not be parsed again: results by content, least recently used first to go.

Invariant: a result depends on the bytes and the kind alone, never on the path, the app or the platform, and
is never changed after it is built. So one cache serves every app and every thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

from uhlp_state.problems import Problem

T = TypeVar("T")

DEFAULT_CAPACITY = 16 * 1024 * 1024
"""Bytes of source text whose results are kept: some 1,000 apps of an ordinary size. A result takes about
ten times the memory of its source, mostly for the places of values."""
ENTRY_OVERHEAD = 1024
"""Bytes that any result is taken to cost at least, so that a flood of tiny files is bounded too."""


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """What a file's bytes mean. `value` is None where the problems leave nothing to go on with."""

    value: T | None
    problems: tuple[Problem, ...] = ()
    """With an empty `file`: the same blob may stand at many paths."""


class ParseCache:
    """A bounded memory of parse results, keyed by blob id and kind of parse. Threads may share it."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._used = 0
        self._entries: OrderedDict[tuple[str, str], tuple[int, Parsed[Any]]] = OrderedDict()
        self._lock = Lock()

    def get(self, blob: str, kind: str, size: int, parse: Callable[[], Parsed[T]]) -> Parsed[T]:
        """The result for `blob`, from memory or from `parse()`, which runs outside the lock."""
        key = (blob, kind)
        with self._lock:
            if known := self._entries.get(key):
                self._entries.move_to_end(key)
                return known[1]
        result = parse()
        cost = size + ENTRY_OVERHEAD
        with self._lock:
            if key not in self._entries and cost <= self._capacity:
                self._entries[key] = (cost, result)
                self._used += cost
                while self._used > self._capacity:
                    _, (freed, _) = self._entries.popitem(last=False)
                    self._used -= freed
        return result
