"""Commits without a work tree: stage them in memory, look at them, then write them and move the branch.

A branch moves by compare-and-swap only. Objects are on disk before the ref that names them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dulwich.file import FileLocked
from dulwich.objects import ZERO_SHA, Blob, Commit, ObjectID, ShaFile, Tree
from dulwich.refs import DiskRefsContainer

from uhlp_core.errors import InvalidInput, Unavailable
from uhlp_state.git_objects import Objects, open_objects, open_store
from uhlp_state.git_repo import branch_ref
from uhlp_state.git_tree import GitTree, find_entry, read_commit

STALE_LOCK_SECONDS = 30.0
"""Git and we hold a ref's lock for milliseconds; one this old was left by a process that was killed."""
LOCK_WAIT_SECONDS = 40.0
"""How long to wait for others' locks: longer than a stale one lives."""
MAX_PAUSE_SECONDS = 0.05
"""Longest random pause between two tries for a lock."""
FILE_MODE = 0o100644


@dataclass(frozen=True, slots=True)
class Author:
    """Who is named in a commit."""

    name: str
    address: str

    def line(self) -> bytes:
        """`Name <address>`; raises InvalidInput for what would break out of the line."""
        text = f"{self.name.strip()} <{self.address.strip()}>"
        if not self.name.strip() or any(char in self.name + self.address for char in "<>\n\r\0"):
            raise InvalidInput(
                "an author needs a name, and neither name nor address may hold < > or a line end"
            )
        return text.encode("utf-8", "replace")

    @classmethod
    def parse(cls, text: str) -> Author:
        """Read `Name <address>`, or a name alone."""
        name, _, rest = text.partition("<")
        return cls(name, rest.rstrip().removesuffix(">"))


PLATFORM_AUTHOR = Author("UHLP", "uhlp@localhost")


@dataclass(frozen=True, slots=True)
class StagedCommit:
    """A commit that exists in memory only."""

    commit: str
    tree: str
    parent: str | None
    objects: dict[str, tuple[int, bytes]] = field(repr=False)

    def source(self, repo: Path) -> GitTree:
        """Its files, read from the repo and from memory."""
        return GitTree(open_objects(repo).staging(self.objects), self.tree)

    def write(self, repo: Path) -> None:
        """Put its objects on disk; no ref names them yet."""
        store = open_store(repo)
        for kind, raw in self.objects.values():
            store.add_object(ShaFile.from_raw_string(kind, raw))


def stage_commit(
    repo: Path,
    parent: str | None,
    changes: Mapping[str, bytes | None],
    message: str,
    author: Author = PLATFORM_AUTHOR,
) -> StagedCommit:
    """Make a commit in memory: `parent` with some files set, or deleted where the content is None.

    Raises:
        InvalidInput: a path cannot be in a tree, or a change names a folder as a file or a file as a folder.
        NotFound: `parent` does not exist.
    """
    objects = open_objects(repo)
    staged: dict[str, tuple[int, bytes]] = {}
    view = objects.staging(staged)
    root = read_commit(objects, parent).tree if parent else None
    tree = _stage_tree(view, staged, root, {tuple(path_parts(path)): data for path, data in changes.items()})
    commit = Commit()
    commit.tree = ObjectID(tree.encode())
    commit.parents = [ObjectID(parent.encode())] if parent else []
    commit.author = author.line()
    commit.committer = PLATFORM_AUTHOR.line()
    commit.author_time = commit.commit_time = int(time.time())
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding = None
    commit.message = (message.rstrip("\n") + "\n").encode("utf-8", "replace").replace(b"\0", b"")
    return StagedCommit(_stage(staged, commit), tree, parent, staged)


def path_parts(path: str) -> list[str]:
    """The names in a path; raises InvalidInput for one that leaves its root or that Git cannot hold."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" or "\0" in part for part in parts):
        raise InvalidInput(
            f"{path[:80]!r} is no path of a file here: join names by /, such as prompts/hello.yaml"
        )
    return parts


def _stage(staged: dict[str, tuple[int, bytes]], made: ShaFile) -> str:
    name = made.id.decode()
    staged[name] = (made.type_num, made.as_raw_string())
    return name


def _stage_tree(
    view: Objects,
    staged: dict[str, tuple[int, bytes]],
    old: str | None,
    changes: Mapping[tuple[str, ...], bytes | None],
) -> str:
    """Stage the tree `old` with `changes` made, and everything below that changes with it."""
    tree = Tree()
    if old is not None:
        parsed = ShaFile.from_raw_string(*view.read_structure(old))
        assert isinstance(parsed, Tree)
        tree = parsed
    below: dict[str, dict[tuple[str, ...], bytes | None]] = {}
    for (name, *rest), content in changes.items():
        if rest:
            below.setdefault(name, {})[tuple(rest)] = content
            continue
        key = name.encode("utf-8", "surrogateescape")
        known = tree[key][0] if key in tree else None
        if known is not None and stat.S_ISDIR(known):
            raise InvalidInput(f"{name!r} is a folder; name a file")
        if content is not None:
            blob = _stage(staged, Blob.from_string(content))
            # An executable file stays one.
            tree[key] = (known if known and stat.S_ISREG(known) else FILE_MODE, ObjectID(blob.encode()))
        elif known is not None:
            del tree[key]
    for name, inner in below.items():
        key = name.encode("utf-8", "surrogateescape")
        child = None
        if key in tree:
            mode, child = tree[key]
            if not stat.S_ISDIR(mode):
                raise InvalidInput(f"{name!r} is a file; it cannot hold others")
        made = _stage_tree(view, staged, child.decode() if child else None, inner)
        if view.size(made):
            tree[key] = (stat.S_IFDIR, ObjectID(made.encode()))
        elif child is not None:
            # Git knows no empty folders.
            del tree[key]
    return _stage(staged, tree)


def move_branch(repo: Path, branch: str, old: str | None, new: str) -> bool:
    """Point a branch to `new` if it still points to `old` (None: if it does not exist).

    Returns False if it points elsewhere: read again and decide anew.

    Raises:
        Unavailable: another process holds the ref's lock all the time.
    """
    ref = branch_ref(branch)
    refs = DiskRefsContainer(repo)
    expected = ObjectID(old.encode()) if old else ZERO_SHA
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            return bool(refs.set_if_equals(ref, expected, ObjectID(new.encode())))
        except FileLocked as held:
            _clear_stale_lock(repo, Path(os.fsdecode(held.lockfilename)))
        except FileNotFoundError:
            # Git removes a folder of branches when its last branch goes; it is made again.
            pass
        except NotADirectoryError:
            raise InvalidInput(
                f"branch {branch!r} cannot be: another branch is named like its folder"
            ) from None
        _pause(deadline, f"{repo.name}: branch {branch} is locked by another process")


def _clear_stale_lock(repo: Path, lock: Path) -> None:
    """Remove the lock of a process that was killed. Only one process at a time decides that."""
    with _flock(repo / "refs", time.monotonic() + LOCK_WAIT_SECONDS), contextlib.suppress(FileNotFoundError):
        if time.time() - lock.stat().st_mtime > STALE_LOCK_SECONDS:
            lock.unlink()


@contextlib.contextmanager
def writer_lock(repo: Path) -> Iterator[None]:
    """Let one writer of ours at a time work on a repo, so that they do not make each other start anew.

    It spares work and is not needed for safety: `git push` does not take it. The kernel releases it when
    its holder dies. Raises Unavailable after LOCK_WAIT_SECONDS.
    """
    with _flock(repo, time.monotonic() + LOCK_WAIT_SECONDS):
        yield


@contextlib.contextmanager
def _flock(folder: Path, deadline: float) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _pause(deadline, f"{folder} is locked by another process")
        yield
    finally:
        os.close(descriptor)


def _pause(deadline: float, waiting_for: str) -> None:
    if time.monotonic() > deadline:
        raise Unavailable(f"{waiting_for}; try again")
    # Jitter decides between equals; it protects nothing.
    time.sleep(random.uniform(0.0005, MAX_PAUSE_SECONDS))  # noqa: S311


def file_at(repo: Path, commit: str, path: str) -> bytes | None:
    """The content of a file at a commit, or None if there is no such file."""
    objects = open_objects(repo)
    found = find_entry(objects, read_commit(objects, commit).tree, path)
    return objects.read(found[1])[1] if found is not None and stat.S_ISREG(found[0]) else None
