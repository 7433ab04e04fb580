"""One state repo on disk: making it, and where its branches point.

Refs are read from the files that Git documents (loose first, then packed: `pack-refs` writes in the other
order, so a branch is always found in one of the two). Nothing here writes to a repo that exists.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from dulwich.refs import Ref, check_ref_format

from uhlp_core.errors import InvalidInput, NotFound, Unavailable
from uhlp_state.git_objects import is_object_id

HEADS_ATTEMPTS = 20
"""Reads of all heads before giving up on one during which nothing moved."""
RACY_NANOSECONDS = 50_000_000
"""A folder touched this recently may change again within the same time stamp (kernels tick every 1-10 ms)."""

Fingerprint = tuple[int, ...]
"""Equal fingerprints of a repo mean: no branch has moved in between."""


def branch_ref(branch: str) -> Ref:
    """The ref of a branch; raises InvalidInput for what Git would not take as a branch's name."""
    ref = Ref(b"refs/heads/" + branch.encode("utf-8", "surrogateescape"))
    if branch.startswith("-") or not check_ref_format(ref):
        raise InvalidInput(f"{branch[:80]!r} is no branch name: see `git help check-ref-format`")
    return ref


def read_ref(repo: Path, branch: str) -> str | None:
    """The commit that a branch points to, or None if there is no such branch.

    Raises:
        NotFound: there is no such repo.
        OSError, Unavailable: the ref could not be read, which says nothing about its being there.
    """
    name = os.fsdecode(branch_ref(branch))
    try:
        return _commit_id((repo / name).read_bytes(), repo, name)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        pass
    _require_repo(repo)
    return _packed_refs(repo).get(name)


def heads(repo: Path) -> dict[str, str]:
    """Every branch with the commit it points to.

    Raises:
        NotFound: there is no such repo.
        OSError, Unavailable: the refs could not be read. An error never looks like "no branches".
    """
    for _ in range(HEADS_ATTEMPTS):
        try:
            before = _stamp(repo)
            loose = _loose_refs(repo, "refs/heads")
            found = _packed_refs(repo) | dict(loose)
        except FileNotFoundError:
            _require_repo(repo)
            continue
        if _stamp_or_none(repo) == before:
            prefix = "refs/heads/"
            return {
                name.removeprefix(prefix): commit for name, commit in found.items() if name.startswith(prefix)
            }
    raise Unavailable(f"the branches of {repo.name} move too fast to be read together; try again")


def refs_fingerprint(repo: Path) -> Fingerprint:
    """A print of the repo's branches that changes when one moves; costs two `stat` calls in most repos.

    It is made of the time stamps of folders (every ref update makes and renames a lock file in the ref's
    folder). A folder touched in this very moment may be touched again without a new time stamp; then the
    print equals no other, so that the caller looks once more. Take it before reading the heads.

    Raises:
        NotFound: there is no such repo.
        OSError: its folders cannot be read.
    """
    try:
        stamp = _stamp(repo)
    except FileNotFoundError:
        _require_repo(repo)
        return (time.monotonic_ns(),)
    now = time.time_ns()
    if max(stamp[1::2]) > now - RACY_NANOSECONDS:
        return (*stamp, now)
    return stamp


def _stamp(repo: Path) -> Fingerprint:
    """(inode, time stamp) of `packed-refs` and of every folder of branches."""
    root = os.fspath(repo)
    found: list[int] = []
    _stamp_folder(f"{root}/refs/heads", found)
    try:
        packed = os.stat(f"{root}/packed-refs")  # noqa: PTH116 (hot: polled for every repo each second)
        found += (packed.st_ino, packed.st_mtime_ns)
    except FileNotFoundError:
        found += (0, 0)
    return tuple(found)


def _stamp_folder(folder: str, found: list[int]) -> None:
    status = os.stat(folder)  # noqa: PTH116 (hot)
    found += (status.st_ino, status.st_mtime_ns)
    # Two links mean no folder inside; file systems that do not count links so say 1.
    if status.st_nlink != 2:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    _stamp_folder(entry.path, found)


def _stamp_or_none(repo: Path) -> Fingerprint | None:
    try:
        return _stamp(repo)
    except FileNotFoundError:
        return None


def _loose_refs(repo: Path, folder: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    with os.scandir(repo / folder) as entries:
        for entry in entries:
            name = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                found += _loose_refs(repo, name)
            elif not entry.name.startswith(".") and not name.endswith(".lock"):
                found.append((name, _commit_id(Path(entry.path).read_bytes(), repo, name)))
    return found


def _packed_refs(repo: Path) -> dict[str, str]:
    try:
        text = (repo / "packed-refs").read_bytes()
    except FileNotFoundError:
        return {}
    found = {}
    # Not splitlines(): a branch name may hold characters that Unicode takes for line ends.
    for line in os.fsdecode(text).split("\n"):
        commit, _, name = line.partition(" ")
        if name and is_object_id(commit):
            found[name] = commit
    return found


def _commit_id(content: bytes, repo: Path, name: str) -> str:
    text = content.decode("ascii", "replace").strip()
    if not is_object_id(text):
        raise Unavailable(f"{repo.name}: {name} holds no commit id; `git fsck` tells more")
    return text


def _require_repo(repo: Path) -> None:
    if not (repo / "HEAD").exists():
        raise NotFound(f"there is no app {repo.name.removesuffix('.git')!r}: push to it to create it")


def create_repo(repo: Path, hooks: Path, max_push_bytes: int) -> bool:
    """Make an empty state repo, whole or not at all; False if somebody else has made it first.

    Written by hand rather than by `git init`, so that no template or setting of the user shapes it. Git's
    default would let a power cut leave a branch that points to a commit which never reached the disk; the
    repo is the only source of truth here, so `core.fsync` costs each push some 5 ms more.
    """
    if (repo / "HEAD").exists():
        return False
    building = Path(tempfile.mkdtemp(prefix=".new-", dir=repo.parent))
    try:
        for folder in ("objects/info", "objects/pack", "refs/heads", "refs/tags"):
            (building / folder).mkdir(parents=True)
        (building / "HEAD").write_text("ref: refs/heads/main\n")
        (building / "config").write_text(_config(hooks, max_push_bytes))
        # Fails on a folder that holds anything: the winner's repo is never replaced.
        building.rename(repo)
    except OSError:
        shutil.rmtree(building, ignore_errors=True)
        if (repo / "HEAD").exists():
            return False
        raise
    return True


def _config(hooks: Path, max_push_bytes: int) -> str:
    escaped = str(hooks).replace("\\", "\\\\").replace('"', '\\"')
    return f"""\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tsharedRepository = umask
\tfsync = committed
\thooksPath = "{escaped}"
[gc]
\tauto = 0
[http]
\treceivepack = true
[receive]
\tadvertisePushOptions = true
\tautogc = false
\tfsckObjects = true
\tmaxInputSize = {max_push_bytes}
[transfer]
\tfsckObjects = true
\thideRefs = refs/uhlp
[uploadpack]
\tallowFilter = true
"""
