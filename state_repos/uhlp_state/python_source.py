"""What a Python file defines, found by reading it and never by running it."""

from __future__ import annotations

import ast

from uhlp_state.parse_cache import Parsed
from uhlp_state.problems import Code, Problem


def parse_python(data: bytes) -> Parsed[frozenset[str]]:
    """The names that the file defines at its top level: functions, classes and assigned names.

    Never raises: nesting that exhausts the parser and null bytes are problems like any other.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _refused(line, 1, Code.INVALID_UTF8, "the file is not UTF-8 text", "save the file as UTF-8")
    if "\0" in text:
        line, message = text.count("\n", 0, text.index("\0")) + 1, "the code holds a null byte"
        return _refused(line, 1, Code.PYTHON_SYNTAX, message, "remove the null byte")
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        return _refused(
            error.lineno or 1, error.offset or 1, Code.PYTHON_SYNTAX, error.msg, "correct the code"
        )
    except (MemoryError, RecursionError):
        message, remedy = "the code is nested too deep to be read", "simplify the deepest expression"
        return _refused(1, 1, Code.PYTHON_SYNTAX, message, remedy)
    return Parsed(frozenset(_defined(tree)))


def _refused(line: int, column: int, code: Code, message: str, remedy: str) -> Parsed[frozenset[str]]:
    return Parsed(None, (Problem("", max(line, 1), max(column, 1), code, message, remedy),))


def _defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign):
            names.update(target.id for target in statement.targets if isinstance(target, ast.Name))
        elif (
            isinstance(statement, ast.AnnAssign)
            and statement.value
            and isinstance(statement.target, ast.Name)
        ):
            names.add(statement.target.id)
    return names
