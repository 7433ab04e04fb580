"""The files of one commit, read from Git; and what a commit says about itself.

Reads only. Trees come from people: their depth and their number are bounded here, before anybody walks them.
"""

from __future__ import annotations

import heapq
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dulwich.errors import ObjectFormatException
from dulwich.objects import Commit, ShaFile, Tag, parse_tree

from uhlp_core.errors import InvalidInput, NotFound
from uhlp_state.git_objects import TYPES, Objects, is_object_id, open_objects
from uhlp_state.git_repo import read_ref
from uhlp_state.tree_source import MODE_SUBMODULE, TreeEntry

MAX_ENTRIES = 50_000
"""Files and folders walked in one tree. Trees may share subtrees, so a few bytes can unfold to billions."""
MAX_DEPTH = 50
"""Folders inside folders."""
MAX_TAG_CHAIN = 10
"""Tags that point to tags."""


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """What a commit says."""

    commit: str
    tree: str
    parents: tuple[str, ...]
    author: str
    """`Name <address>`."""
    time: int
    """Of the commit (not of authoring), in seconds since the epoch."""
    message: str

    @property
    def subject(self) -> str:
        """The first line of the message."""
        return self.message.split("\n", 1)[0]


class GitTree:
    """The files of one tree, as a `TreeSource`. Not for use by several threads at once."""

    def __init__(self, objects: Objects, tree: str) -> None:
        self.tree = tree
        self._objects = objects
        self._entries: list[TreeEntry] | None = None

    @classmethod
    def at(cls, repo: Path, commit: str) -> GitTree:
        """The tree of a commit in a repo; raises NotFound."""
        objects = open_objects(repo)
        return cls(objects, read_commit(objects, commit).tree)

    def entries(self) -> list[TreeEntry]:
        """Every file, in Git's order.

        Raises:
            InvalidInput: the tree is too deep or too large to be walked, or malformed.
            NotFound: an object is missing.
        """
        if self._entries is None:
            budget = [MAX_ENTRIES]
            self._entries = list(_walk(self._objects, self.tree, "", 0, budget))
        return self._entries

    def read(self, entry: TreeEntry) -> bytes:
        """The content of one of `entries()`."""
        return self._objects.read(entry.blob)[1]


def find_entry(objects: Objects, tree: str, path: str) -> tuple[int, str] | None:
    """Mode and object id of a file or folder by its path, or None. The empty path is the tree itself."""
    mode, current = stat.S_IFDIR, tree
    for name in path.split("/") if path else ():
        if not stat.S_ISDIR(mode):
            return None
        wanted = name.encode("utf-8", "surrogateescape")
        step = next((entry for entry in _read_tree(objects, current) if entry[0] == wanted), None)
        if step is None:
            return None
        _, mode, current = step
    return mode, current


def read_commit(objects: Objects, commit: str) -> CommitInfo:
    """What a commit (or an annotated tag of one) says.

    Raises:
        NotFound: there is no such object.
        InvalidInput: it is not a commit, or malformed.
    """
    for _ in range(MAX_TAG_CHAIN):
        parsed = _parse(objects, commit)
        if isinstance(parsed, Tag):
            commit = parsed.object[1].decode()
            continue
        if isinstance(parsed, Commit):
            return CommitInfo(
                commit=commit,
                tree=parsed.tree.decode(),
                parents=tuple(parent.decode() for parent in parsed.parents),
                author=parsed.author.decode("utf-8", "replace"),
                time=parsed.commit_time,
                message=parsed.message.decode("utf-8", "replace"),
            )
        break
    raise InvalidInput(f"{commit} is not a commit")


def resolve_revision(repo: Path, revision: str | None, branch: str) -> str:
    """The full commit id of a revision: None is the branch's head, else a branch or a full commit id.

    Raises NotFound if there is none.
    """
    if revision is not None and is_object_id(revision):
        return read_commit(open_objects(repo), revision).commit
    head = read_ref(repo, revision or branch)
    if head is None:
        what = f"revision {revision!r}" if revision else f"branch {branch!r}"
        raise NotFound(f"{repo.name.removesuffix('.git')} has no {what}; give a branch or a full commit id")
    return head


def history(objects: Objects, commit: str, limit: int) -> Iterator[CommitInfo]:
    """The commit and its first parents, newest first, at most `limit` of them."""
    following: str | None = commit
    for _ in range(limit):
        if following is None:
            return
        info = read_commit(objects, following)
        yield info
        following = info.parents[0] if info.parents else None


def is_ancestor(objects: Objects, ancestor: str, commit: str) -> bool:
    """Whether `commit` contains `ancestor` (each contains itself)."""
    # Newest first, so that an ordinary push is answered from the commits that it brings.
    seen, queue = {commit}, [(0, commit)]
    while queue:
        _, current = heapq.heappop(queue)
        if current == ancestor:
            return True
        for parent in read_commit(objects, current).parents:
            if parent not in seen:
                seen.add(parent)
                heapq.heappush(queue, (-read_commit(objects, parent).time, parent))
    return False


def _parse(objects: Objects, object_id: str) -> ShaFile:
    kind, raw = objects.read_structure(object_id)
    try:
        parsed = ShaFile.from_raw_string(kind, raw)
        parsed.check()
    except (ObjectFormatException, ValueError, AssertionError) as error:
        raise InvalidInput(f"the Git object {object_id} is malformed: {error}") from None
    return parsed


def _read_tree(objects: Objects, tree: str) -> Iterator[tuple[bytes, int, str]]:
    kind, raw = objects.read_structure(tree)
    if kind != TYPES[b"tree"]:
        raise InvalidInput(f"the Git object {tree} is not a tree")
    try:
        for name, mode, sha in parse_tree(raw, 20):
            yield name, mode, sha.decode()
    except ObjectFormatException as error:
        raise InvalidInput(f"the Git tree {tree} is malformed: {error}") from None


def _walk(objects: Objects, tree: str, prefix: str, depth: int, budget: list[int]) -> Iterator[TreeEntry]:
    if depth > MAX_DEPTH:
        raise InvalidInput(
            f"{prefix[:80]}… is deeper than {MAX_DEPTH} folders; keep files nearer to the root",
            code="TREE_TOO_LARGE",
        )
    for name, mode, object_id in _read_tree(objects, tree):
        budget[0] -= 1
        if budget[0] < 0:
            raise InvalidInput(
                f"the commit holds more than {MAX_ENTRIES} files and folders; split the app",
                code="TREE_TOO_LARGE",
            )
        path = prefix + name.decode("utf-8", "surrogateescape")
        if stat.S_ISDIR(mode):
            yield from _walk(objects, object_id, path + "/", depth + 1, budget)
        else:
            # A submodule's id names a commit elsewhere: there is nothing here to measure.
            size = 0 if mode == MODE_SUBMODULE else objects.size(object_id)
            yield TreeEntry(path, mode, object_id, size)
