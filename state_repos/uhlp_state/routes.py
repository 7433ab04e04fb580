"""Route patterns and the table that finds the one for a request (specification 3.1.2, RouteMatcher).

A pattern is a path of static segments, `:name` for any one segment, and `*name` at the end for all that
follows. The table is built once and never changes; a match walks a tree of dicts, segment by segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from uhlp_state.problems import quoted

T = TypeVar("T")

MAX_SEGMENTS = 64
"""Of a pattern and of a path that is matched: nobody writes deeper routes, and it bounds the recursion."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_STATIC = re.compile(r"[A-Za-z0-9._~!$&'()+,;=@-]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class RouteError(ValueError):
    """A pattern, or a table of patterns, that cannot be used."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class BadPattern(RouteError):
    """The text is not a route pattern."""


class RouteConflict(RouteError):
    """Two patterns take the same requests."""


@dataclass(frozen=True, slots=True)
class RoutePattern:
    """A parsed pattern."""

    text: str
    segments: tuple[str, ...]
    """As written, between the slashes: `("api", "users", ":id")`."""

    @classmethod
    def parse(cls, text: str) -> RoutePattern:
        """Read a pattern such as `/api/users/:id`.

        Raises:
            BadPattern: what is wrong with it.
        """
        if not text.startswith("/"):
            raise BadPattern(f"the pattern {quoted(text)} does not start with `/`", "start it with `/`")
        segments = tuple(text[1:].split("/"))
        if len(segments) > MAX_SEGMENTS:
            raise BadPattern(f"the pattern has more than {MAX_SEGMENTS} segments", "use a shorter pattern")
        names: set[str] = set()
        for index, segment in enumerate(segments):
            last = index == len(segments) - 1
            if segment[:1] in (":", "*"):
                _check_parameter(segment, last, names)
            elif not last and not segment:
                raise BadPattern(f"the pattern {quoted(text)} has an empty segment", "remove the extra `/`")
            elif segment in (".", ".."):
                remedy = "remove it: clients resolve `.` and `..` before they ask"
                raise BadPattern(f"the pattern {quoted(text)} has a segment {segment}", remedy)
            elif not _STATIC.fullmatch(segment):
                remedy = "use letters, digits and -._~!$&'()+,;=@; a parameter is a whole segment, `:name`"
                raise BadPattern(f"the segment {quoted(segment)} has a character that is not allowed", remedy)
        return cls(text, segments)

    @property
    def shape(self) -> tuple[str, ...]:
        """The segments without the parameters' names: patterns of the same shape take the same paths."""
        return tuple(segment[0] if segment[:1] in (":", "*") else segment for segment in self.segments)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, from left to right."""
        return tuple(segment[1:] for segment in self.segments if segment[:1] in (":", "*"))


def _check_parameter(segment: str, last: bool, names: set[str]) -> None:
    name = segment[1:]
    if not _NAME.fullmatch(name):
        remedy = "name it with letters, digits and `_`, e.g. `:id`"
        raise BadPattern(f"the parameter {quoted(segment)} has no valid name", remedy)
    if name in names:
        raise BadPattern(f"the parameter {quoted(name)} stands twice", "give each its own name")
    if segment[0] == "*" and not last:
        raise BadPattern(f"the wildcard {quoted(segment)} is not the last segment", "move it to the end")
    names.add(name)


def effective_methods(methods: Iterable[str]) -> tuple[str, ...]:
    """The methods that a route answers as declared: none means GET."""
    return tuple(methods) or ("GET",)


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """The route that takes a request."""

    value: T
    pattern: RoutePattern
    parameters: dict[str, str]
    """Decoded, by name. A wildcard's segments are joined with `/`."""


@dataclass(frozen=True, slots=True)
class MethodNotAllowed:
    """The path has routes, but none for the method."""

    allow: tuple[str, ...]
    """Methods that it has, sorted, for the `Allow` header."""


@dataclass(slots=True)
class _Node(Generic[T]):
    """A place in the tree: what follows it, and the routes that end here, by method."""

    static: dict[str, _Node[T]] = field(default_factory=dict)
    parameter: _Node[T] | None = None
    here: dict[str, tuple[T, RoutePattern]] = field(default_factory=dict)
    rest: dict[str, tuple[T, RoutePattern]] = field(default_factory=dict)


class RouteTable(Generic[T]):
    """All routes of one app.

    A static segment beats a parameter, a parameter beats a wildcard, from left to right; a more specific
    pattern hides a less specific one only for the methods that it answers itself.
    """

    def __init__(self, routes: Iterable[tuple[RoutePattern, Iterable[str], T]]) -> None:
        """Build the table from (pattern, methods, value).

        Raises:
            RouteConflict: two routes take the same path and method.
        """
        self._root: _Node[T] = _Node()
        for pattern, methods, value in routes:
            self._insert(pattern, effective_methods(methods), value)

    def match(self, path: str, method: str) -> Match[T] | MethodNotAllowed | None:
        """Find the route for a raw path (percent-encoded, without query) and a method.

        Segments are split before they are decoded, so `%2F` stays inside a parameter. A path with a bad
        escape or with invalid UTF-8 matches nothing.
        """
        segments = _split(path)
        if segments is None:
            return None
        allow: set[str] = set()
        taken: list[str] = []
        found = _find(self._root, segments, 0, method, taken, allow)
        if found is None:
            return MethodNotAllowed(tuple(sorted(allow))) if allow else None
        value, pattern = found
        return Match(value, pattern, dict(zip(pattern.names, taken, strict=True)) if taken else {})

    def slash_variant(self, path: str, method: str) -> str | None:
        """The path with its trailing slash added or removed, if only that form has a route."""
        # A browser reads `/\\host` as `//host`: a redirect to such a path would lead to another site.
        if path == "/" or "\\" in path or isinstance(self.match(path, method), Match):
            return None
        other = path[:-1] if path.endswith("/") else path + "/"
        return other if isinstance(self.match(other, method), Match) else None

    def _insert(self, pattern: RoutePattern, methods: tuple[str, ...], value: T) -> None:
        node = self._root
        ends = node.here
        for segment in pattern.segments:
            if segment.startswith("*"):
                ends = node.rest
                break
            if segment.startswith(":"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.static.setdefault(segment, _Node())
            ends = node.here
        for method in methods:
            if known := ends.get(method):
                message = f"{method} {pattern.text} and {known[1].text} take the same requests"
                raise RouteConflict(message, "change one of the patterns, or its methods")
        ends.update(dict.fromkeys(methods, (value, pattern)))


def _split(path: str) -> list[str] | None:
    if not path.startswith("/"):
        return None
    segments = path[1:].split("/", MAX_SEGMENTS)
    if "%" not in path:
        return segments if len(segments) <= MAX_SEGMENTS else None
    if len(segments) > MAX_SEGMENTS or _BAD_ESCAPE.search(path):
        return None
    try:
        return [unquote_to_bytes(segment).decode() if "%" in segment else segment for segment in segments]
    except UnicodeError:
        return None


def _find(
    node: _Node[T], segments: list[str], index: int, method: str, taken: list[str], allow: set[str]
) -> tuple[T, RoutePattern] | None:
    """The best route below `node`; fills `taken` with the parameters and `allow` with other methods."""
    if index == len(segments):
        return _answering(node.here, method, allow)
    segment = segments[index]
    below = node.static.get(segment)
    if below and (found := _find(below, segments, index + 1, method, taken, allow)):
        return found
    if segment and node.parameter:
        taken.append(segment)
        if found := _find(node.parameter, segments, index + 1, method, taken, allow):
            return found
        taken.pop()
    if segment and node.rest and (found := _answering(node.rest, method, allow)):
        taken.append("/".join(segments[index:]))
        return found
    return None


def _answering(
    ends: dict[str, tuple[T, RoutePattern]], method: str, allow: set[str]
) -> tuple[T, RoutePattern] | None:
    found = ends.get(method)
    if found is None and method == "HEAD":
        found = ends.get("GET")
    if found is None:
        allow.update(ends)
        if "GET" in ends:
            allow.add("HEAD")
    return found
