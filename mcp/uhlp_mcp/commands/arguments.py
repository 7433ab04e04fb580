"""Which arguments hardened programs may get: options by name, and so many operands. Nothing else passes.

What is not listed is refused, so a new option of a new version is harmless. All of these programs then read
standard input only: no option and no operand names a file, also where an option changes what an operand is,
and the languages of gawk and jq get no words that open one.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from uhlp_core.errors import InvalidInput

MAX_PATTERN = 2000
"""Characters of one argument that is a pattern or a program."""

MAX_REPEAT = 1000
"""Largest bound of a repetition: a regular expression is expanded by it in memory."""

_REPEATS = re.compile(r"\\?\{([0-9]*)(?:,([0-9]*))?\\?\}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,12}")

_AWK_DIRECTIVE = re.compile(r"@\s*(?:\\[\s#]|\w*(?:include|load))", re.ASCII)
"""Between the sign and its word there may be blanks and a continued line."""

_AWK_ARGUMENTS = ("ARGV", "SYMTAB")
"""Names of the array of files to read. The sandbox checks what is assigned to it, not what `split` and its
like put there."""

_JQ_MODULES = re.compile(r"(?<!\.)\b(?:import|include|modulemeta)\b", re.ASCII)
"""jq has no option against modules. `.include` is a field whatever stands around it."""

_DATE_ZONE = re.compile(r'TZ="(?![:/])(?!.*\.\.)', re.DOTALL)
"""A zone by its name or rule. Behind a colon or a slash it is the path of a file."""

Check = Callable[[str], str | None]
"""What is wrong with a value; None if nothing is."""


class ArgumentRefused(InvalidInput):
    """A program must not get this argument."""

    code = "ARGUMENT_REFUSED"


@dataclass(frozen=True, slots=True)
class Grammar:
    """What one program may get."""

    flags: frozenset[str] = frozenset()
    """Options without a value: `r` for `-r`, `raw-output` for `--raw-output`."""
    valued: "dict[str, Check] | None" = None
    """Options with one value, and what to check of it."""
    operands: "tuple[Check, ...]" = ()
    """The operands in order, all optional. They come behind all options."""
    before_operand: str = ""
    """What is put before the operand, so that no option changes what it is: `-e` or `--`."""
    instead: frozenset[str] = frozenset()
    """Options that take the operand's place: it would be the name of a file beside them."""
    forced: tuple[str, ...] = ()
    """What stands before everything else."""
    named: frozenset[str] = frozenset()
    """Options with a name and a value after them (jq's `--arg`)."""

    def checked(self, program: str, arguments: Sequence[str]) -> list[str]:
        """The arguments to run it with. Raises ArgumentRefused."""
        return [*self.forced, *_Reader(self, program, arguments).read()]


class _Reader:
    """Goes through one call's arguments."""

    def __init__(self, grammar: Grammar, program: str, arguments: Sequence[str]) -> None:
        self._valued = grammar.valued or {}
        self._grammar = grammar
        self._program = program
        self._rest = list(arguments)
        self._taken: list[str] = []
        self._operands: list[str] = []
        self._instead: str | None = None

    def read(self) -> list[str]:
        while self._rest:
            argument = self._rest.pop(0)
            if argument.startswith("--"):
                self._long(argument)
            elif argument.startswith("-") and len(argument) > 1:
                self._short(argument)
            else:
                self._operand(argument)
        if not self._operands:
            return self._taken
        if self._instead is not None:
            self._too_many(self._operands[0], f" beside {self._instead}")
        before = self._grammar.before_operand
        return [*self._taken, *([before] if before else []), *self._operands]

    def _long(self, argument: str) -> None:
        name, equals, value = argument[2:].partition("=")
        if name in self._grammar.named:
            if equals or len(self._rest) < 2:
                self._refuse(f"--{name} takes a name and a value after it")
            self._taken += (argument, self._rest.pop(0), self._rest.pop(0))
        elif name in self._valued:
            if not equals:
                value = self._value(argument)
            self._valued_option(name, f"--{name}", value)
            # As two: jq knows no equals sign.
            self._taken += (f"--{name}", value)
        elif name in self._grammar.flags and not equals:
            self._taken.append(argument)
        else:
            # An abbreviation is no listed name either.
            self._refuse(f"the option {_shown(argument.partition('=')[0])} is not available")

    def _short(self, argument: str) -> None:
        letters = argument[1:]
        for position, letter in enumerate(letters):
            if letter in self._valued:
                value = letters[position + 1 :] or self._value(f"-{letter}")
                self._valued_option(letter, f"-{letter}", value)
                self._taken += (f"-{letter}", value)
                return
            if letter not in self._grammar.flags:
                self._refuse(f"the option {_shown('-' + letter)} is not available")
            self._taken.append(f"-{letter}")

    def _valued_option(self, name: str, option: str, value: str) -> None:
        self._check(self._valued[name], option, value)
        if name in self._grammar.instead:
            self._instead = option

    def _value(self, option: str) -> str:
        if not self._rest:
            self._refuse(f"{option} needs a value")
        return self._rest.pop(0)

    def _operand(self, argument: str) -> None:
        if len(self._operands) >= len(self._grammar.operands):
            self._too_many(argument)
        self._check(self._grammar.operands[len(self._operands)], "its argument", argument)
        self._operands.append(argument)

    def _check(self, check: Check, what: str, value: str) -> None:
        wrong = check(value)
        if wrong is not None:
            self._refuse(f"{what}: {wrong}")

    def _too_many(self, argument: str, beside: str = "") -> None:
        self._refuse(
            f"the argument {_shown(argument)} is one too many{beside}; "
            "it reads its standard input and no files"
        )

    def _refuse(self, why: str) -> None:
        raise ArgumentRefused(f"{self._program}: {why}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def any_text(value: str) -> str | None:
    return None if len(value) <= MAX_PATTERN else f"at most {MAX_PATTERN} characters"


def number(value: str) -> str | None:
    return None if _NUMBER.fullmatch(value) else f"{_shown(value)} is not a number"


def pattern(value: str) -> str | None:
    """A regular expression or a script with some in it, whose repetitions are bounded."""
    if len(value) > MAX_PATTERN:
        return f"at most {MAX_PATTERN} characters"
    for found in _REPEATS.finditer(value):
        if any(len(bound) > 4 or int(bound) > MAX_REPEAT for bound in found.groups() if bound):
            return f"repetitions are bounded by {MAX_REPEAT}, not {found[0]}"
    return None


def _awk_program(value: str) -> str | None:
    for name in _AWK_ARGUMENTS:
        if name in value:
            return f"it must not have the name {name}, not even in a string, as files could be read by it"
    if found := _AWK_DIRECTIVE.search(value):
        return f"it must not have {_shown(found[0])}, not even in a string, as files could be read by it"
    return pattern(value)


def _jq_program(value: str) -> str | None:
    if found := _JQ_MODULES.search(value):
        return (
            f"it must not have the word {found[0]}, not even in a string, as files could be read by it; "
            f".{found[0]} is the field of that name"
        )
    return any_text(value)


def _date(value: str) -> str | None:
    if value.count('TZ="') != len(_DATE_ZONE.findall(value)):
        return 'a time zone is given by its name, as in TZ="Europe/Paris", not by a path'
    return any_text(value)


def _date_format(value: str) -> str | None:
    return any_text(value) if value.startswith("+") else "only a +FORMAT is available"


def _flags(letters: str, *names: str) -> frozenset[str]:
    return frozenset((*letters, *names))


_LINES = Grammar(
    _flags("qvz", "quiet", "verbose"), {"n": number, "c": number, "lines": number, "bytes": number}
)
_GREP = Grammar(
    _flags(
        "EFGivwxcnohsbHz",
        "extended-regexp", "fixed-strings", "basic-regexp", "ignore-case", "invert-match", "word-regexp",
        "line-regexp", "count", "line-number", "only-matching", "no-messages", "byte-offset",
    ),
    {
        "e": pattern, "regexp": pattern, "m": number, "max-count": number,
        "A": number, "B": number, "C": number,
    },
    (pattern,),
    before_operand="-e",
    instead=frozenset({"e", "regexp"}),
)  # fmt: skip
_JQ = Grammar(
    _flags(
        "rcsneSaj",
        "raw-output", "compact-output", "slurp", "null-input", "exit-status", "sort-keys", "ascii-output",
        "join-output", "raw-input", "tab", "seq", "stream",
    ) | {"R"},
    {"indent": number},
    (_jq_program,),
    named=frozenset({"arg", "argjson"}),
)  # fmt: skip
_SORT = Grammar(
    _flags("nrufbdgiMhVsz", "numeric-sort", "reverse", "unique", "ignore-case", "stable"),
    {"k": any_text, "t": any_text, "key": any_text, "field-separator": any_text},
)

GRAMMARS: dict[str, Grammar] = {
    "base64": Grammar(_flags("di", "decode", "ignore-garbage"), {"w": number, "wrap": number}),
    "cut": Grammar(
        _flags("sz", "only-delimited", "complement"),
        dict.fromkeys(("d", "f", "c", "b", "delimiter", "fields", "characters", "bytes"), any_text),
    ),
    "date": Grammar(_flags("uR", "utc"), {"d": _date, "date": _date}, (_date_format,)),
    # `--sandbox` takes away system(), pipes, getline from files, and output to files.
    "gawk": Grammar(
        valued={"F": any_text, "v": any_text},
        operands=(_awk_program,),
        before_operand="--",
        forced=("--sandbox", "--re-interval"),
    ),
    "grep": _GREP,
    "head": _LINES,
    "jq": _JQ,
    # `--sandbox` takes away the commands e, r and w.
    "sed": Grammar(
        _flags("nErsz", "quiet", "silent", "regexp-extended", "null-data"),
        {"e": pattern, "expression": pattern},
        (pattern,),
        before_operand="-e",
        instead=frozenset({"e", "expression"}),
        forced=("--sandbox",),
    ),
    "sha256sum": Grammar(),
    "sort": _SORT,
    "tail": _LINES,
    "tr": Grammar(_flags("cCdst", "complement", "delete", "squeeze-repeats"), operands=(any_text, any_text)),
    "uniq": Grammar(_flags("cdui", "count", "repeated", "unique", "ignore-case"), {"f": number, "s": number}),
    "wc": Grammar(_flags("clmwL", "bytes", "chars", "lines", "words", "max-line-length")),
}
"""By the name of the program's file. `awk` is a link to one of several programs: an app names which."""
