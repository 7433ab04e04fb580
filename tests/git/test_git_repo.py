"""Reading repos while Git works on them: heads, fingerprints, trees, sizes."""

import os
import random
import subprocess
import threading
import time

import pytest

from git.git_world import Work
from uhlp_core.errors import InvalidInput, NotFound, Unavailable
from uhlp_state import git_objects
from uhlp_state.git_objects import Objects, open_objects
from uhlp_state.git_repo import create_repo, heads, read_ref, refs_fingerprint
from uhlp_state.git_tree import GitTree, history, is_ancestor, read_commit, resolve_revision


@pytest.fixture
def repo(tmp_path):
    (tmp_path / "repos").mkdir()
    create_repo(tmp_path / "repos/x.git", tmp_path / "no-hooks", 10**8)
    return tmp_path / "repos/x.git"


@pytest.fixture
def work(tmp_path):
    made = Work(tmp_path / "work")
    made.git("init", "--quiet", "--initial-branch=main")
    return made


def test_a_new_repo_is_one_that_git_likes(repo, work):
    assert work.git("--git-dir", repo, "fsck") == ""
    assert work.git("--git-dir", repo, "config", "core.hooksPath").endswith("/no-hooks")
    assert work.git("--git-dir", repo, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert heads(repo) == {} and read_ref(repo, "main") is None


def test_only_one_of_many_makes_the_repo(tmp_path):
    made = []
    start = threading.Barrier(8)

    def make():
        start.wait()
        made.append(create_repo(tmp_path / "x.git", tmp_path, 10**8))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]
    assert [path.name for path in tmp_path.iterdir()] == ["x.git"]


def test_heads_are_loose_packed_and_nested(repo, work):
    first = work.commit({"a": "1"})
    work.push(repo, "main", "main:preview/one", "main:proposals/sum/3")
    work.git("--git-dir", repo, "pack-refs", "--all")
    second = work.commit({"a": "2"})
    work.push(repo, "main", "main:preview/two")
    assert heads(repo) == {
        "main": second, "preview/one": first, "preview/two": second, "proposals/sum/3": first,
    }  # fmt: skip
    assert read_ref(repo, "preview/one") == first and read_ref(repo, "main") == second
    assert read_ref(repo, "preview") is None


def test_what_cannot_be_read_is_never_an_empty_answer(repo, tmp_path):
    for broken in (tmp_path / "missing.git", tmp_path):
        with pytest.raises(NotFound):
            heads(broken)
        with pytest.raises(NotFound):
            read_ref(broken, "main")
        with pytest.raises(NotFound):
            refs_fingerprint(broken)
    (repo / "refs/heads/main").write_text("")
    with pytest.raises(Unavailable, match="refs/heads/main holds no commit id"):
        heads(repo)
    with pytest.raises(Unavailable):
        read_ref(repo, "main")


@pytest.mark.parametrize("branch", ["../../HEAD", "-x", "a..b", "a b", "x.lock", "", "a\0b"])
def test_names_that_are_no_branches(repo, branch):
    with pytest.raises(InvalidInput):
        read_ref(repo, branch)


def test_a_fingerprint_changes_with_every_update(repo, work):
    """Each update follows the last at once, within one tick of the file system's clock."""
    work.commit({"a": "1"})
    work.push(repo, "main", "main:preview/one")
    ids = [work.commit({"a": str(number)}) for number in range(30)]
    seen = refs_fingerprint(repo)
    for commit in ids:
        for branch in ("main", "preview/one"):
            path = repo / "refs/heads" / branch
            lock = path.with_name(path.name + ".lock")
            lock.write_text(commit + "\n")
            lock.rename(path)
            now = refs_fingerprint(repo)
            assert now != seen
            seen = now


def test_a_fingerprint_settles(repo, work):
    work.commit({"a": "1"})
    work.push(repo, "main", "main:preview/one")
    past = time.time() - 10
    for folder in ("refs/heads", "refs/heads/preview"):
        os.utime(repo / folder, (past, past))
    assert refs_fingerprint(repo) == refs_fingerprint(repo)


def test_heads_never_miss_a_branch_while_refs_are_packed(repo, work):
    """A branch moves from loose to packed and back for a while; it is always there."""
    ids = [work.commit({"a": str(number)}) for number in range(3)]
    work.push(repo, "main", "main:preview/one")
    done = threading.Event()

    def churn():
        try:
            for number in range(40):
                work.git("--git-dir", repo, "update-ref", "refs/heads/preview/one", ids[number % 3])
                work.git("--git-dir", repo, "pack-refs", "--all", "--prune")
        finally:
            done.set()

    churning = threading.Thread(target=churn)
    churning.start()
    reads = 0
    while not done.is_set():
        found = heads(repo)
        assert set(found) == {"main", "preview/one"} and found["main"] == ids[-1]
        assert read_ref(repo, "preview/one") in ids
        reads += 1
    churning.join()
    assert reads > 10


def test_trees_are_read_while_git_repacks(repo, work):
    commits = []
    for number in range(10):
        commits.append(work.commit({f"f{number}": f"content {number}\n" * 50}))
        work.push(repo)
    done = threading.Event()

    def churn():
        try:
            for _ in range(6):
                work.git("--git-dir", repo, "gc", "--quiet", "--prune=now")
                work.git("--git-dir", repo, "repack", "-a", "-d", "-q", "-F")
        finally:
            done.set()

    churning = threading.Thread(target=churn)
    churning.start()
    while not done.is_set():
        for number, commit in enumerate(commits):
            source = GitTree.at(repo, commit)
            entries = source.entries()
            assert [entry.path for entry in entries] == [f"f{n}" for n in range(number + 1)]
            assert source.read(entries[-1]) == f"content {number}\n".encode() * 50
    churning.join()


@pytest.mark.parametrize("packed", [False, True])
def test_entries_have_the_modes_ids_and_sizes_of_git(repo, work, monkeypatch, packed):
    """And no file is inflated to learn its size: only trees and the commit are read."""
    random.seed(7)
    work.commit({f"d/e/f{n}.bin": random.randbytes(1000 * n + 1) for n in range(9)})
    (work.folder / "d/run").write_text("#!/bin/sh\n")
    (work.folder / "d/run").chmod(0o755)
    # Similar to another file, so that a pack holds one of the two as a delta.
    similar = random.randbytes(20_000)
    commit = work.commit({"s1": similar, "s2": similar + b"more", "ü.txt": "ü"})
    work.push(repo)
    if packed:
        work.git("--git-dir", repo, "repack", "-a", "-d", "-q", "-F")
    monkeypatch.setattr(git_objects, "_sizes", {})
    reads = []
    original = Objects.read
    monkeypatch.setattr(Objects, "read", lambda self, name: reads.append(name) or original(self, name))
    listed = [
        line.split(None, 4) for line in work.git("ls-tree", "-r", "-l", "-z", commit).split("\0") if line
    ]
    expected = [(path, int(mode, 8), blob, int(size)) for mode, _, blob, size, path in listed]
    found = [(entry.path, entry.mode, entry.blob, entry.size) for entry in GitTree.at(repo, commit).entries()]
    assert found == expected
    assert not {blob for _, _, blob, _ in expected} & set(reads)


def test_commits_history_and_ancestry(repo, work):
    first = work.commit({"a": "1"}, "one\n\nbody")
    work.git("checkout", "--quiet", "-b", "side")
    side = work.commit({"b": "1"}, "side")
    work.git("checkout", "--quiet", "main")
    second = work.commit({"a": "2"}, "two")
    work.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
    merge = work.git("rev-parse", "HEAD")
    work.git("tag", "-a", "v1", "-m", "tag")
    work.push(repo, "main", "v1")
    objects = open_objects(repo)
    info = read_commit(objects, merge)
    assert info.parents == (second, side) and info.subject == "merge"
    assert info.author == "tester@example.org <tester@example.org>"
    assert [entry.commit for entry in history(objects, merge, 10)] == [merge, second, first]
    assert [entry.subject for entry in history(objects, merge, 2)] == ["merge", "two"]
    assert is_ancestor(objects, side, merge) and is_ancestor(objects, first, merge)
    assert not is_ancestor(objects, merge, first) and not is_ancestor(objects, side, second)
    assert read_commit(objects, work.git("rev-parse", "v1")).commit == merge
    assert resolve_revision(repo, None, "main") == merge == resolve_revision(repo, "main", "other")
    for missing in ("nothing", "0" * 40):
        with pytest.raises(NotFound):
            resolve_revision(repo, missing, "main")
    with pytest.raises(InvalidInput, match="is not a commit"):
        read_commit(objects, info.tree)


def test_a_tree_too_deep_is_refused(repo, work):
    commit = work.commit({"/".join(["d"] * 60 + ["f"]): "x"})
    work.push(repo)
    with pytest.raises(InvalidInput, match="deeper than 50 folders"):
        GitTree.at(repo, commit).entries()


def test_a_size_is_told_without_inflating(repo, work):
    """Ten megabytes of zeros are ten kilobytes in the pack."""
    commit = work.commit({"zeros": bytes(10_000_000)})
    work.push(repo)
    subprocess.run(["git", "--git-dir", repo, "repack", "-a", "-d", "-q"], check=True)
    source = GitTree.at(repo, commit)
    assert source.entries()[0].size == 10_000_000
