"""`package.json` and `package-lock.json`, read strictly: versions of packages of the registry.

What npm gets is written anew from what was understood. Scripts of the app are left out, and so are the
addresses in the lock: packages are fetched by name and version from the operator's registry and checked
against the lock's hashes.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from uhlp_state.json_places import Mistake, located
from uhlp_state.parse_cache import Parsed
from uhlp_state.problems import Code, Problem, quoted
from uhlp_state.yaml_source import YamlPath

LOCK_VERSIONS = (2, 3)
"""Of the lock's format: npm 7 and newer. Older locks do not list what is installed where."""

_GROUPS = ("dependencies", "optionalDependencies", "devDependencies", "peerDependencies")
_LOCKED = (
    *_GROUPS,
    "version",
    "integrity",
    "bin",
    "engines",
    "os",
    "cpu",
    "libc",
    "dev",
    "optional",
    "devOptional",
    "peer",
    "peerDependenciesMeta",
    "hasInstallScript",
    "inBundle",
)
"""What npm needs to know of a locked package."""

_NAME = re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9~_-][A-Za-z0-9._~-]*")
_RANGE = re.compile(r"[A-Za-z0-9.*^~<>=|+\s-]*")
"""A range of versions, or a tag. No `:` and no `/`: those begin an address."""
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.+-]*")
_INTEGRITY = re.compile(r"sha(?:256|384|512)-[A-Za-z0-9+/=]+(?: sha(?:256|384|512)-[A-Za-z0-9+/=]+)*")
_FOLDER = re.compile(rf"node_modules/{_NAME.pattern}(?:/node_modules/{_NAME.pattern})*")


def parse_package(data: bytes) -> Parsed[bytes]:
    """The package's name, version and dependencies; nothing where it has none to install. Never raises."""
    document, problems = _object(data)
    if document is None:
        return Parsed(None, problems)
    mistakes = _group_mistakes(document, ())
    if document.get("workspaces"):
        remedy = "list the packages as dependencies; an app's own code lies in state/_jit_code"
        mistakes.append((("workspaces",), Code.DEPENDENCY_SOURCE, "workspaces are not installed", remedy))
    if mistakes:
        return Parsed(None, located(data, mistakes))
    if not document.get("dependencies") and not document.get("optionalDependencies"):
        return Parsed(b"")
    kept = {key: document[key] for key in ("name", "version", *_GROUPS) if key in document}
    return Parsed(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS))


def parse_lock(data: bytes) -> Parsed[bytes]:
    """The locked packages with their hashes and without their addresses. Never raises."""
    document, problems = _object(data)
    if document is None:
        return Parsed(None, problems)
    packages = document.get("packages")
    if document.get("lockfileVersion") not in LOCK_VERSIONS or not isinstance(packages, dict):
        message, remedy = "the lock is of a format that is not read", "write it anew with npm 7 or newer"
        return Parsed(None, located(data, [((), Code.BAD_DEPENDENCY, message, remedy)]))
    mistakes = [mistake for path, entry in packages.items() if (mistake := _lock_mistake(path, entry))]
    if mistakes:
        return Parsed(None, located(data, mistakes))
    locked = {
        path: {key: entry[key] for key in _LOCKED if key in entry} if path else _root(entry)
        for path, entry in packages.items()
    }
    lock: dict[str, Any] = {key: document[key] for key in ("name", "version") if key in document}
    lock |= {"lockfileVersion": 3, "requires": True, "packages": locked}
    return Parsed(orjson.dumps(lock, option=orjson.OPT_SORT_KEYS))


def _root(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ("name", "version", *_GROUPS) if key in entry}


def _object(data: bytes) -> tuple[dict[str, Any] | None, tuple[Problem, ...]]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        problem = Problem("", error.lineno, error.colno, Code.JSON_SYNTAX, error.msg, "correct the JSON here")
        return None, (problem,)
    if isinstance(document, dict):
        return document, ()
    message = "the file is not a JSON object"
    return None, (Problem("", 1, 1, Code.BAD_DEPENDENCY, message, "write it with `npm init`"),)


def _group_mistakes(document: dict[str, Any], base: YamlPath) -> list[Mistake]:
    mistakes: list[Mistake] = []
    for group in _GROUPS:
        wanted = document.get(group, {})
        if not isinstance(wanted, dict):
            remedy = 'write it as {"name": "version"}'
            mistakes.append(((*base, group), Code.BAD_DEPENDENCY, f"{group} is not an object", remedy))
            continue
        for name, version in wanted.items():
            if not _NAME.fullmatch(name) or not isinstance(version, str):
                message, remedy = f"{quoted(name)} is not a package and its version", "correct it"
                mistakes.append(((*base, group, name), Code.BAD_DEPENDENCY, message, remedy))
            elif not _RANGE.fullmatch(version):
                message = f"{quoted(name)} is to come from {quoted(version)}, which is not a version"
                remedy = 'name a version, as in "^1.2.0"; which registry, the operator\'s settings say'
                mistakes.append(((*base, group, name), Code.DEPENDENCY_SOURCE, message, remedy))
    return mistakes


def _lock_mistake(path: str, entry: Any) -> Mistake | None:
    place: YamlPath = ("packages", path)
    again = "write the lock anew: `npm install --package-lock-only`"
    if not isinstance(entry, dict):
        return place, Code.BAD_DEPENDENCY, f"the entry {quoted(path)} is not an object", again
    if mistakes := _group_mistakes(entry, place):
        return mistakes[0]
    if not path:
        return None
    if not _FOLDER.fullmatch(path) or entry.get("link"):
        message = f"{quoted(path)} is not a package of the registry"
        return place, Code.DEPENDENCY_SOURCE, message, "depend on a package of the registry instead"
    version, integrity = entry.get("version"), entry.get("integrity")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        return place, Code.DEPENDENCY_SOURCE, f"{quoted(path)} has no version of the registry", again
    bundled = entry.get("inBundle") is True
    if not bundled and (not isinstance(integrity, str) or not _INTEGRITY.fullmatch(integrity)):
        return place, Code.BAD_DEPENDENCY, f"{quoted(path)} has no integrity hash", again
    return None
