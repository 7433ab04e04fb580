"""What a template takes from its surroundings, and of what it makes sure before.

Follows Jinja2's scopes and conditions; says nothing about what there is. Expects a tree without the tags that
prompts cannot use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jinja2 import nodes

Path = tuple[str, ...]
"""A name and keys below it: `config.mail.sender` and `config["mail"]["sender"]` are the same."""

MAX_MADE_SURE = 16
"""Of one place, the innermost: nobody nests as many conditions, and they are kept for each use."""


@dataclass(frozen=True, slots=True)
class Use:
    """A place in a template that fails where something is not there."""

    path: Path
    line: int
    """From 1, within the template."""
    made_sure: tuple[Path, ...]
    """What is there whenever the template comes to this place, since it has asked with `is defined`."""


def uses(tree: nodes.Template, functions: frozenset[str]) -> Iterator[Use]:
    """Every use of a name that neither the template sets nor is one of the functions, in their order."""
    return _Scope(None, (), functions).all_of(tree.body)


class _Scope:
    """What a part of a template knows, from its top to its bottom."""

    def __init__(self, outer: _Scope | None, made_sure: tuple[Path, ...], names: Iterable[str] = ()) -> None:
        self._outer = outer
        self._made_sure = made_sure
        self._names = set(names)
        """Set here, and so not of the surroundings; grows with each `set`."""

    def all_of(self, found: Iterable[nodes.Node]) -> Iterator[Use]:
        """The uses in what stands one after the other in this scope."""
        for node in found:
            yield from self._in(node)

    def _in(self, node: nodes.Node) -> Iterator[Use]:
        path = _path(node)
        if path is not None:
            yield from self._use(path, node.lineno)
        elif isinstance(node, nodes.NSRef):
            yield from self._use((node.name,), node.lineno)
        elif isinstance(node, nodes.Name):
            self._names.add(node.name)
        elif isinstance(node, nodes.Test | nodes.Filter) and node.name in _ASKING:
            yield from self._asking(node)
        elif isinstance(node, nodes.Assign):
            yield from self.all_of((node.node, node.target))
        elif isinstance(node, nodes.For):
            yield from self._loop(node)
        elif isinstance(node, nodes.If):
            yield from self._branches(node)
        elif isinstance(node, nodes.CondExpr):
            yield from self._in(node.test)
            yield from self._after(node.test, True)._in(node.expr1)
            yield from self._after(node.test, False).all_of([node.expr2] if node.expr2 else [])
        elif isinstance(node, nodes.And | nodes.Or):
            yield from self._in(node.left)
            yield from self._after(node.left, isinstance(node, nodes.And))._in(node.right)
        elif isinstance(node, nodes.With):
            yield from self.all_of(node.values)
            yield from _Scope(self, self._made_sure, _names(node.targets)).all_of(node.body)
        elif isinstance(node, nodes.Scope):
            yield from _Scope(self, self._made_sure).all_of(node.body)
        else:
            yield from self.all_of(node.iter_child_nodes())

    def _use(self, path: Path, line: int) -> Iterator[Use]:
        if not self._knows(path[0]):
            yield Use(path, line, self._made_sure)

    def _knows(self, name: str) -> bool:
        scope: _Scope | None = self
        while scope is not None and name not in scope._names:
            scope = scope._outer
        return scope is not None

    def _asking(self, node: nodes.Test | nodes.Filter) -> Iterator[Use]:
        """`a.b is defined` and `a.b | default("")` fail only where there is no `a`."""
        path = _path(node.node) if node.node else None
        if path is not None and len(path) > 1:
            yield from self._use(path[:-1], node.lineno)
        asked = None if path is None else node.node
        yield from self.all_of(child for child in node.iter_child_nodes() if child is not asked)

    def _loop(self, node: nodes.For) -> Iterator[Use]:
        yield from self._in(node.iter)
        body = _Scope(self, self._made_sure, _names([node.target]))
        if node.test is not None:
            yield from body._in(node.test)
            body = body._after(node.test, True)
        body._names.add("loop")
        yield from body.all_of(node.body)
        yield from _Scope(self, self._made_sure).all_of(node.else_)

    def _branches(self, node: nodes.If) -> Iterator[Use]:
        """What every branch sets is known after all of them."""
        made_sure = self._made_sure
        ends = []
        for branch in (node, *node.elif_):
            otherwise = _Scope(self, made_sure)
            yield from otherwise._in(branch.test)
            taken = otherwise._after(branch.test, True)
            yield from taken.all_of(branch.body)
            ends.append(taken._names)
            made_sure = otherwise._after(branch.test, False)._made_sure
        last = _Scope(self, made_sure)
        yield from last.all_of(node.else_)
        self._names |= last._names.intersection(*ends)

    def _after(self, test: nodes.Node, outcome: bool) -> _Scope:
        """Where the test came out so."""
        shown = tuple(path for path in _shown(test, outcome) if not self._knows(path[0]))
        return _Scope(self, (*shown, *self._made_sure)[:MAX_MADE_SURE])


_ASKING = frozenset(("defined", "undefined", "default", "d"))
"""Tests and filters that a missing value may be given to."""


def _path(node: nodes.Node) -> Path | None:
    """The name and the keys that an expression consists of; None if it is anything else."""
    keys: list[str] = []
    while True:
        if isinstance(node, nodes.Getattr):
            keys.append(node.attr)
        elif (
            isinstance(node, nodes.Getitem)
            and isinstance(node.arg, nodes.Const)
            and isinstance(node.arg.value, str)
        ):
            keys.append(node.arg.value)
        else:
            break
        node = node.node
    if isinstance(node, nodes.Name) and node.ctx == "load":
        return (node.name, *reversed(keys))
    return None


def _names(targets: Iterable[nodes.Node]) -> set[str]:
    """What targets of `for` and `with` set: names, or tuples of them."""
    return {
        name.name
        for target in targets
        for name in ([target] if isinstance(target, nodes.Name) else target.find_all(nodes.Name))
    }


def _shown(test: nodes.Node, outcome: bool) -> tuple[Path, ...]:
    """What is there if a test came out so."""
    if isinstance(test, nodes.Not):
        return _shown(test.node, not outcome)
    if isinstance(test, nodes.And if outcome else nodes.Or):
        return _shown(test.right, outcome) + _shown(test.left, outcome)
    if isinstance(test, nodes.Test) and test.name == ("defined" if outcome else "undefined"):
        path = _path(test.node)
        return () if path is None else (path,)
    return ()
