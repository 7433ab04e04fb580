"""The packages that an app's code may import beyond its language's own: what its commit asks for.

Every file is read into the form in which the installer gets it: only lines and keys that were understood,
none that names a place to fetch from. So what was checked is what is installed, whatever the installer
would have made of the rest. Reads bytes; installs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from uhlp_state.model.pools import Language
from uhlp_state.npm_source import parse_lock, parse_package
from uhlp_state.parse_cache import Parsed
from uhlp_state.requirements_source import parse_requirements

REQUIREMENTS = "state/requirements.txt"
PACKAGE = "state/package.json"
LOCK = "state/package-lock.json"

Parser = Callable[[bytes], Parsed[bytes]]
"""From a file to the installer's form of it, which is empty where nothing is asked for."""

_HASH_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What one commit asks for in one language."""

    language: Language
    files: Mapping[str, bytes]
    """For the installer, by file name."""

    @property
    def digest(self) -> str:
        """The content's hash: the name under which apps that ask for the same share it."""
        digest = hashlib.sha256(self.language.value.encode())
        for name, content in sorted(self.files.items()):
            digest.update(f"\0{name}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()[:_HASH_LENGTH]


def dependencies(parsed: Callable[[str, Parser], bytes | None]) -> list[Dependencies]:
    """What a commit asks for, by its files as `parsed` gives them: None for one that is missing or wrong."""
    found = []
    if requirements := parsed(REQUIREMENTS, parse_requirements):
        found.append(Dependencies(Language.PYTHON, {"requirements.txt": requirements}))
    if (package := parsed(PACKAGE, parse_package)) and (lock := parsed(LOCK, parse_lock)):
        found.append(Dependencies(Language.JAVASCRIPT, {"package.json": package, "package-lock.json": lock}))
    return found


def read_dependencies(read: Callable[[str], bytes | None]) -> list[Dependencies]:
    """The same of a tree that was validated before; `read` gives a file's content, None if there is none."""

    def parsed(path: str, parse: Parser) -> bytes | None:
        content = read(path)
        return None if content is None else parse(content).value

    return dependencies(parsed)
