"""The state manager (specification 3.3): an app's definition files in Git, and its runtime values in Redis.

Paths are relative to the app's state root: `prompts/x.yaml` is `state/prompts/x.yaml` in the repo. Every
write is validated as a whole tree, as a push would be, before the branch moves; the registry daemon notices
the new head by itself. Git is blocking, so it runs in threads.
"""

from __future__ import annotations

import asyncio
import json
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from uhlp_core.errors import Conflict, InvalidInput, NotFound
from uhlp_core.home import Home
from uhlp_core.ids import PLATFORM_APP, PRODUCTION_BRANCH, check_app_id
from uhlp_core.store import Store
from uhlp_state.commits import (
    PLATFORM_AUTHOR,
    Author,
    file_at,
    move_branch,
    path_parts,
    stage_commit,
    writer_lock,
)
from uhlp_state.git_objects import open_objects
from uhlp_state.git_repo import heads, read_ref
from uhlp_state.git_tree import GitTree, find_entry, is_ancestor, read_commit, resolve_revision
from uhlp_state.merge import merge_texts
from uhlp_state.parse_cache import ParseCache
from uhlp_state.patch import apply_diff
from uhlp_state.problems import Problem
from uhlp_state.proposals import Proposal
from uhlp_state.receive import check_commit, current_platform
from uhlp_state.runtime_state import RuntimeState
from uhlp_state.yaml_source import parse_yaml

STATE_ROOT = "state/"
MAX_ATTEMPTS = 100
"""Tries to move a branch that pushes keep moving; our own writers take turns and cost none."""
MAX_PROBLEMS_TOLD = 10
"""In the text of an error; the error object carries all."""

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,9})\]")

Changes = Mapping[str, bytes | None]
"""What to write at which path in the repo; None deletes."""


class InvalidDefinition(InvalidInput):
    """The change would make the app invalid; nothing was written."""

    code = "INVALID_DEFINITION"

    def __init__(self, problems: Sequence[Problem]) -> None:
        shown = "\n".join(problem.format() for problem in problems[:MAX_PROBLEMS_TOLD])
        more = len(problems) - MAX_PROBLEMS_TOLD
        super().__init__(
            f"the change would make the app invalid, so it was not made:\n{shown}"
            + (f"\nand {more} more" if more > 0 else "")
        )
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class FileContent:
    """`GetDefinitionFileContentResponse`."""

    found: bool
    content: str | None
    revision: str

    def to_json(self) -> dict[str, Any]:
        return {"found": self.found, "content": self.content, "revision": self.revision}


@dataclass(frozen=True, slots=True)
class StateValue:
    """A value inside a definition file."""

    found: bool
    value: Any
    revision: str

    def to_json(self) -> dict[str, Any]:
        return {"found": self.found, "value": self.value, "revision": self.revision}


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """The answer to a write that was made; one that was not raises."""

    resulting_revision: str
    """The commit that now holds the change; the head as it was, if there was nothing to change."""
    branch: str
    """Where that commit is."""
    merged: bool = False
    """Whether somebody else's newer change of the same file was kept beside this one."""

    def to_json(self) -> dict[str, Any]:
        return {"success": True, "resultingRevision": self.resulting_revision, "branch": self.branch}


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One line of a listing; the path is relative to the state root."""

    path: str
    type: Literal["file", "directory"]


@dataclass(frozen=True, slots=True)
class DirectoryListing:
    """`ListDefinitionDirectoryResponse`."""

    entries: tuple[DirectoryEntry, ...]
    revision: str

    def to_json(self) -> dict[str, Any]:
        entries = [{"path": entry.path, "type": entry.type} for entry in self.entries]
        return {"entries": entries, "revision": self.revision}


class StateManager(RuntimeState):
    """Definition state of all apps of one installation, and their runtime state.

    All methods raise InvalidInput for ids and paths that cannot be, and NotFound for an app, revision or
    branch that is not there. Those that write also raise InvalidDefinition, and Conflict if somebody else's
    change stands in the way. They write to a branch by name, which is made where it is missing, or to a
    proposal, which must change something.
    """

    def __init__(self, home: Home, store: Store, cache: ParseCache | None = None) -> None:
        super().__init__(store)
        self._repos = home.repos
        self._cache = cache or ParseCache()

    async def get_definition_file_content(
        self, app_id: str, file_path: str, revision: str | None = None, *, branch: str = PRODUCTION_BRANCH
    ) -> FileContent:
        """The text of a file at a revision (a full commit id or a branch); by default the branch's head."""

        def read() -> FileContent:
            commit, content = self._read(app_id, file_path, revision, branch)
            text = None if content is None else _text(content, file_path)
            return FileContent(content is not None, text, commit)

        return await asyncio.to_thread(read)

    async def get_state_value(
        self,
        app_id: str,
        file_path: str,
        value_path: str,
        revision: str | None = None,
        *,
        branch: str = PRODUCTION_BRANCH,
    ) -> StateValue:
        """A value inside a YAML or JSON file, such as `sandboxPools.pools[0].poolName`.

        The empty path is the whole document. A path that leads nowhere is not found, which is no error.
        """
        steps = parse_value_path(value_path)

        def read() -> StateValue:
            commit, content = self._read(app_id, file_path, revision, branch)
            if content is None:
                return StateValue(False, None, commit)
            found, value = _follow(_document(content, file_path), steps)
            return StateValue(found, value, commit)

        return await asyncio.to_thread(read)

    async def list_definition_directory(
        self,
        app_id: str,
        directory_path: str = "",
        recursive: bool = False,
        revision: str | None = None,
        *,
        branch: str = PRODUCTION_BRANCH,
    ) -> DirectoryListing:
        """Files and folders in a folder, sorted by path; the empty path is the state root."""
        named = directory_path.rstrip("/")
        folder = repo_path(named) if named else STATE_ROOT.rstrip("/")

        def read() -> DirectoryListing:
            repo = self._repo(app_id)
            commit = resolve_revision(repo, revision, branch)
            objects = open_objects(repo)
            found = find_entry(objects, read_commit(objects, commit).tree, folder)
            if found is None or not stat.S_ISDIR(found[0]):
                raise NotFound(f"{app_id} has no folder {directory_path!r} at {commit:.7}")
            prefix = f"{folder}/".removeprefix(STATE_ROOT)
            names = (entry.path for entry in GitTree(objects, found[1]).entries())
            return DirectoryListing(_listing(names, prefix, recursive), commit)

        return await asyncio.to_thread(read)

    async def apply_definition_diff(
        self,
        app_id: str,
        file_path: str,
        diff_content: str,
        expected_base_revision: str,
        commit_message: str,
        author: str | None = None,
        *,
        branch: str | Proposal = PRODUCTION_BRANCH,
    ) -> ChangeResult:
        """Apply a unified diff that was made against `expected_base_revision`.

        If the file has changed since, both changes are merged where they touch different lines.

        Raises:
            PatchError: the diff cannot be read, or does not fit the file at the base.
            Conflict: the file has changed since in the same lines, or the branch no longer contains the base.
        """
        path = repo_path(file_path)
        merged = False

        def change(repo: Path, head: str | None) -> Changes:
            nonlocal merged
            base = resolve_revision(repo, expected_base_revision, PRODUCTION_BRANCH)
            if head is None or not is_ancestor(open_objects(repo), base, head):
                raise Conflict(f"the branch does not contain {base:.7}: read the file again at its head")
            before, now = (_text_or_none(file_at(repo, commit, path), path) for commit in (base, head))
            wanted = apply_diff(diff_content, before)
            merged = now != before
            if not merged:
                return {path: _bytes_or_none(wanted)}
            if wanted == now:
                return {}
            if before is None or now is None or wanted is None:
                raise Conflict(
                    f"{file_path} was made or deleted after {base:.7}: read it again and make the diff anew"
                )
            return {path: merge_texts(before, wanted, now).encode()}

        made = await self._write(app_id, branch, change, commit_message, author)
        return replace(made, merged=merged)

    async def set_definition_file_content(
        self,
        app_id: str,
        file_path: str,
        content: str,
        commit_message: str,
        author: str | None = None,
        *,
        branch: str | Proposal = PRODUCTION_BRANCH,
    ) -> ChangeResult:
        """Make or overwrite a file, whatever is there; `apply_definition_diff` is safer for changes."""
        path, data = repo_path(file_path), _encoded(content)
        return await self._write(app_id, branch, lambda _repo, _head: {path: data}, commit_message, author)

    async def delete_definition_file(
        self,
        app_id: str,
        file_path: str,
        commit_message: str,
        author: str | None = None,
        *,
        branch: str | Proposal = PRODUCTION_BRANCH,
    ) -> ChangeResult:
        """Delete a file; raises NotFound if there is none."""
        path = repo_path(file_path)

        def change(repo: Path, head: str | None) -> Changes:
            if head is None or file_at(repo, head, path) is None:
                raise NotFound(f"{app_id} has no file {file_path!r} there")
            return {path: None}

        return await self._write(app_id, branch, change, commit_message, author)

    def _repo(self, app_id: str) -> Path:
        return self._repos / f"{app_id if app_id == PLATFORM_APP else check_app_id(app_id)}.git"

    def _read(
        self, app_id: str, file_path: str, revision: str | None, branch: str
    ) -> tuple[str, bytes | None]:
        repo, path = self._repo(app_id), repo_path(file_path)
        commit = resolve_revision(repo, revision, branch)
        return commit, file_at(repo, commit, path)

    async def _write(
        self,
        app_id: str,
        target: str | Proposal,
        change: Callable[[Path, str | None], Changes],
        message: str,
        author: str | None,
    ) -> ChangeResult:
        repo = self._repo(app_id)
        named = Author.parse(author) if author else PLATFORM_AUTHOR
        if not message.strip():
            raise InvalidInput("a commit needs a message that says why")
        return await asyncio.to_thread(self._commit, repo, target, change, message, named)

    def _commit(
        self,
        repo: Path,
        target: str | Proposal,
        change: Callable[[Path, str | None], Changes],
        message: str,
        author: Author,
    ) -> ChangeResult:
        """Make a change on top of a branch's head, again and again until nobody was in between."""
        app = repo.name.removesuffix(".git")
        # Raises NotFound before anything is locked.
        read_ref(repo, PRODUCTION_BRANCH)
        with writer_lock(repo):
            for _ in range(MAX_ATTEMPTS):
                # Under the lock: two writers must not both find the same number free.
                branch = target if isinstance(target, str) else target.branch(repo, heads(repo))
                old = read_ref(repo, branch)
                # A new branch starts where production is.
                head = old or read_ref(repo, PRODUCTION_BRANCH)
                staged = stage_commit(repo, head, change(repo, head), message, author)
                if head is not None and staged.tree == read_commit(open_objects(repo), head).tree:
                    if isinstance(target, Proposal):
                        raise InvalidInput("the change changes nothing, so there is nothing to propose")
                    return ChangeResult(head, branch)
                platform = current_platform(self._repos)
                problems = check_commit(
                    staged.source(repo), app, staged.commit, staged.tree, self._cache, platform
                )
                if problems:
                    raise InvalidDefinition(problems)
                staged.write(repo)
                if move_branch(repo, branch, old, staged.commit):
                    return ChangeResult(staged.commit, branch)
        raise Conflict(f"{app}: the branch is being pushed to all the time; try again")


def repo_path(path: str) -> str:
    """The path in the repo of a path below the state root; raises InvalidInput for one that leaves it."""
    path_parts(path)
    return STATE_ROOT + path


def parse_value_path(path: str) -> list[str | int]:
    """`a.b[0].c` as its steps; raises InvalidInput."""
    steps: list[str | int] = []
    dotted = path if path.startswith("[") or not path else f".{path}"
    at = 0
    while at < len(dotted):
        step = _STEP.match(dotted, at)
        if step is None:
            raise InvalidInput(f"{path[:80]!r} is no path to a value: write it like a.b[0].c")
        steps.append(step[1] if step[1] is not None else int(step[2]))
        at = step.end()
    return steps


def _follow(value: Any, steps: Sequence[str | int]) -> tuple[bool, Any]:
    for step in steps:
        in_list = isinstance(step, int) and isinstance(value, list) and step < len(value)
        in_mapping = isinstance(step, str) and isinstance(value, dict) and step in value
        if not in_list and not in_mapping:
            return False, None
        value = value[step]
    return True, value


def _document(content: bytes, file_path: str) -> Any:
    if file_path.endswith(".json"):
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{file_path} is not JSON: {error}") from None
    parsed = parse_yaml(content)
    if parsed.value is None:
        problem = parsed.problems[0].in_file(file_path)
        raise InvalidInput(f"{file_path} cannot be read: {problem.format()}")
    return parsed.value.value


def _listing(names: Iterable[str], prefix: str, recursive: bool) -> tuple[DirectoryEntry, ...]:
    found: dict[str, Literal["file", "directory"]] = {}
    for name in names:
        parts = name.split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            found[prefix + "/".join(parts[:depth])] = "directory"
        if recursive or len(parts) == 1:
            found[prefix + name] = "file"
    return tuple(DirectoryEntry(path, found[path]) for path in sorted(found))


def _text(content: bytes, path: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not text (UTF-8), so it cannot be read or changed here") from None


def _text_or_none(content: bytes | None, path: str) -> str | None:
    return None if content is None else _text(content, path)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("the content is not valid Unicode text") from None


def _bytes_or_none(text: str | None) -> bytes | None:
    return None if text is None else _encoded(text)
