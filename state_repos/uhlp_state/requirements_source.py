"""`requirements.txt`, read strictly: package names with versions, markers and hashes, and nothing else.

pip understands much more: options, URLs, other files, variables, encodings. All of that would let a commit
choose where packages come from, which is the operator's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from uhlp_state.parse_cache import Parsed
from uhlp_state.problems import Code, Problem, quoted
from uhlp_state.yaml_source import MAX_FINDINGS

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"
_EXTRAS = rf"\[\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\]"
_VERSION = r"(?:===|~=|==|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]{1,100}"
_VERSIONS = rf"{_VERSION}(?:\s*,\s*{_VERSION})*"
_MARKER = r"""[A-Za-z0-9_.,\s'"<>=!~()*+-]{1,500}"""
_REQUIREMENT = re.compile(rf"{_NAME} ?(?:{_EXTRAS})? ?(?:{_VERSIONS}|\( ?{_VERSIONS} ?\))? ?(?:;{_MARKER})?")
_HASH = re.compile(r"hash[= ](?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")
MAX_LINE = 20_000
"""Characters of one requirement with all its hashes: a hundred of them fit."""

_REQUIRE_HASHES = "--require-hashes"
_COMMENT = re.compile(r"(?:^|\s)#.*")
_SOURCE = re.compile(
    r"^-|://|^[./]|@|^[A-Za-z]+\+|\$\{|\.(?:whl|zip|tar|tgz|gz|bz2|xz)\b| --(?!hash[= ])", re.IGNORECASE
)
"""Marks of a line that names where to fetch from, or that sets an option."""


def parse_requirements(data: bytes) -> Parsed[bytes]:
    """The file's requirements, one a line. Never raises."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        problem = Problem("", number, 1, Code.INVALID_UTF8, "the file is not UTF-8 text", "save it as UTF-8")
        return Parsed(None, (problem,))
    accepted: list[str] = []
    problems: list[Problem] = []
    for number, line in _logical_lines(text):
        if len(problems) == MAX_FINDINGS:
            message = f"more than {MAX_FINDINGS} problems; the rest of the file was not read"
            problems.append(Problem("", number, 1, Code.TOO_MANY_PROBLEMS, message, "mend those first"))
            break
        if line == _REQUIRE_HASHES or _is_requirement(line):
            accepted.append(line)
        else:
            problems.append(_problem(number, line))
    if problems:
        return Parsed(None, tuple(problems))
    wanted = any(line != _REQUIRE_HASHES for line in accepted)
    return Parsed("".join(f"{line}\n" for line in accepted).encode() if wanted else b"")


def _is_requirement(line: str) -> bool:
    if len(line) > MAX_LINE or not line.isascii() or _SOURCE.search(line):
        return False
    requirement, *options = line.split(" --")
    # pip takes whatever follows " -" for options.
    if " -" in requirement or not _REQUIREMENT.fullmatch(requirement):
        return False
    return all(_HASH.fullmatch(option) for option in options)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, continued ones joined, none empty; each with the number of its first."""
    parts: list[str] = []
    first = 1
    for number, raw in enumerate(text.split("\n"), 1):
        line = _COMMENT.sub("", raw.rstrip("\r"))
        if not parts:
            first = number
        continued = line.endswith("\\")
        parts.append(line.removesuffix("\\"))
        if continued:
            continue
        yield from _joined(first, parts)
        parts = []
    yield from _joined(first, parts)


def _joined(line: int, parts: list[str]) -> Iterator[tuple[int, str]]:
    """One logical line, with single spaces, which is what the patterns expect."""
    if text := " ".join(" ".join(parts).split()):
        yield line, text


def _problem(number: int, text: str) -> Problem:
    if _SOURCE.search(text):
        return Problem(
            "",
            number,
            1,
            Code.DEPENDENCY_SOURCE,
            f"{quoted(text)} is an option, or names where a package comes from",
            "name a package of the index, as in `package==1.2`; which index, the operator's settings say",
        )
    message = f"{quoted(text)} is not a requirement"
    remedy = "write one a line, as in `package==1.2 --hash=sha256:…`"
    return Problem("", number, 1, Code.BAD_DEPENDENCY, message, remedy)
