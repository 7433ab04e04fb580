"""Prompt templates as far as reading tells: syntax, the allowed part of Jinja2, and the names that they use.

Nothing is ever rendered here. What a template may use is what the runner's environment offers
(`uhlp_runner.templates`); a test holds the two lists together, since neither imports the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import Environment, TemplateSyntaxError, nodes

from uhlp_state.problems import Code, did_you_mean, quoted
from uhlp_state.template_uses import Use, uses

# fmt: off
FILTERS = frozenset((
    "abs", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "filesizeformat", "first",
    "float", "format", "groupby", "indent", "int", "items", "join", "last", "length", "list", "lower", "map",
    "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "select", "selectattr", "slice",
    "sort", "string", "sum", "title", "tojson", "trim", "truncate", "trusted", "unique", "upper",
    "wordcount", "wordwrap",
))
"""Jinja2's own without those that write HTML or choose at random, and `trusted`."""

TESTS = frozenset((
    "!=", "<", "<=", "==", ">", ">=", "boolean", "defined", "divisibleby", "eq", "equalto", "even", "false",
    "float", "ge", "greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan", "lower", "lt",
    "mapping", "ne", "none", "number", "odd", "sequence", "string", "true", "undefined", "upper",
))
# fmt: on

GLOBALS = frozenset(("dict", "namespace", "range"))

_REFUSED: dict[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from … import",
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.FilterBlock: "filter",
    nodes.AssignBlock: "set … endset",
}
"""Tags that read other files, or that put text together past the fences around untrusted values."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with a template."""

    line: int
    """From 1, within the template."""
    code: Code
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Template:
    """What reading a template found."""

    mistakes: tuple[Mistake, ...]
    uses: tuple[Use, ...] = ()
    """What it takes from its surroundings."""


# Nothing is rendered, so nothing needs escaping, and a filter needs no more than a name.
_environment = Environment()  # noqa: S701
_environment.filters["trusted"] = str


def read_template(text: str) -> Template:
    """Read a template. Never raises."""
    try:
        tree = _environment.parse(text)
        mistakes = tuple(_mistakes(tree))
        return Template(mistakes) if mistakes else Template((), tuple(uses(tree, GLOBALS)))
    except TemplateSyntaxError as error:
        message = f"the template is not valid Jinja2: {error.message}"
        return Template((Mistake(error.lineno, Code.TEMPLATE_SYNTAX, message, "correct the template here"),))
    except (RecursionError, MemoryError, OverflowError):
        message = "the template is nested too deep to be read"
        return Template((Mistake(1, Code.TEMPLATE_SYNTAX, message, "simplify its deepest expression"),))


def _mistakes(tree: nodes.Template) -> Iterator[Mistake]:
    for node in tree.find_all(nodes.Node):
        tag = _REFUSED.get(type(node))
        if isinstance(node, nodes.For) and node.recursive:
            tag = "for … recursive"
        if tag is not None:
            yield Mistake(
                node.lineno,
                Code.TEMPLATE_REFUSED,
                f"a prompt cannot use `{tag}`",
                "write the text out; a prompt has variables, if, for, set and filters",
            )
        elif isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
            message = f"the attribute {quoted(node.attr)} is not for templates"
            yield Mistake(node.lineno, Code.TEMPLATE_REFUSED, message, "use the values' own keys")
        elif isinstance(node, nodes.Filter):
            yield from _unknown(node, node.name, FILTERS, "filter")
            yield from _unknown_argument(node)
        elif isinstance(node, nodes.Test):
            yield from _unknown(node, node.name, TESTS, "test")


def _unknown(node: nodes.Node, name: str, known: frozenset[str], kind: str) -> Iterator[Mistake]:
    if name not in known:
        remedy = did_you_mean(name, known, f"docs/prompts.md lists every {kind}")
        yield Mistake(
            node.lineno, Code.TEMPLATE_UNKNOWN_NAME, f"there is no {kind} {quoted(name)} in prompts", remedy
        )


def _unknown_argument(node: nodes.Filter) -> Iterator[Mistake]:
    """Filters that are given the name of a filter or test: `map("upper")`, `selectattr("open", "true")`."""
    place = 1 if node.name in ("selectattr", "rejectattr") else 0
    named = node.args[place] if len(node.args) > place else None
    if isinstance(named, nodes.Const) and isinstance(named.value, str):
        if node.name == "map":
            yield from _unknown(node, named.value, FILTERS, "filter")
        elif node.name in ("select", "reject", "selectattr", "rejectattr"):
            yield from _unknown(node, named.value, TESTS, "test")
