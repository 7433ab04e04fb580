"""Which commit of a branch was last in force, kept in the repo itself as `refs/uhlp/applied/<branch>`.

It makes the last good revision survive the loss of Redis, and keeps its objects from being pruned. The refs
are hidden from Git clients (`transfer.hideRefs`).
"""

from pathlib import Path

from dulwich.refs import DiskRefsContainer, Ref

_PREFIX = b"refs/uhlp/applied/"


def applied_revision(repo: Path, branch: str) -> str | None:
    """The commit of this branch that last served, or None."""
    commit = DiskRefsContainer(str(repo)).read_ref(_ref(branch))
    return commit.decode() if commit else None


def note_applied(repo: Path, branch: str, commit: str) -> None:
    """Record that `commit` serves now. Raises OSError, or dulwich's FileLocked if another writer is at it."""
    refs = DiskRefsContainer(str(repo))
    wanted = commit.encode()
    if refs.read_ref(_ref(branch)) != wanted:
        refs.set_if_equals(_ref(branch), None, wanted)  # type: ignore[arg-type]


def forget_applied(repo: Path, branches: set[str]) -> None:
    """Drop the record of every branch but these."""
    refs = DiskRefsContainer(str(repo))
    for name in list(refs.subkeys(Ref(_PREFIX))):
        if name.decode() not in branches:
            refs.remove_if_equals(Ref(_PREFIX + name), None)


def _ref(branch: str) -> Ref:
    return Ref(_PREFIX + branch.encode("utf-8", "surrogateescape"))
