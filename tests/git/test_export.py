"""Exported trees: complete or not there, read-only, and gone when told so."""

import os
import stat
import threading

import pytest

from git.git_world import Work
from uhlp_core.errors import InvalidInput, NotFound
from uhlp_state import export
from uhlp_state.export import TEMPORARY_PREFIX, export_tree, remove_tree, sweep
from uhlp_state.git_repo import create_repo
from uhlp_state.git_tree import GitTree

FILES = {"state/a.yaml": "a: 1\n", "state/deep/er/b.py": "b = 2\n", "run": "#!/bin/sh\n", "empty": ""}


@pytest.fixture
def repo(tmp_path):
    create_repo(tmp_path / "x.git", tmp_path, 10**8)
    return tmp_path / "x.git"


@pytest.fixture
def work(tmp_path):
    made = Work(tmp_path / "work")
    made.git("init", "--quiet", "--initial-branch=main")
    return made


def pushed(repo, work, files):
    commit = work.commit(files)
    assert work.push(repo).returncode == 0
    return GitTree.at(repo, commit).tree


def test_a_tree_is_written_read_only(repo, work, tmp_path):
    (work.folder / "run").write_text("")
    (work.folder / "run").chmod(0o755)
    tree = pushed(repo, work, FILES)
    target = tmp_path / "trees/x" / tree
    assert export_tree(repo, tree, target) is True
    assert {
        p.relative_to(target).as_posix(): p.read_text() for p in target.rglob("*") if p.is_file()
    } == FILES
    modes = {p.relative_to(target).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in target.rglob("*")}
    assert modes == {
        "state": 0o555, "state/deep": 0o555, "state/deep/er": 0o555, "state/a.yaml": 0o444,
        "state/deep/er/b.py": 0o444, "run": 0o555, "empty": 0o444,
    }  # fmt: skip
    assert stat.S_IMODE(target.stat().st_mode) == 0o555
    assert export_tree(repo, tree, target) is False
    remove_tree(target)
    remove_tree(target)
    assert list(target.parent.iterdir()) == []


def test_many_exporters_of_one_tree(repo, work, tmp_path):
    tree = pushed(repo, work, FILES)
    target = tmp_path / "trees/x" / tree
    start, won = threading.Barrier(6), []

    def run():
        start.wait()
        won.append(export_tree(repo, tree, target))
        assert (target / "state/deep/er/b.py").read_text() == "b = 2\n"

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 5 + [True]
    assert [path.name for path in target.parent.iterdir()] == [tree]


def test_an_exporter_that_is_killed_leaves_only_a_temporary_folder(repo, work, tmp_path):
    tree = pushed(repo, work, {f"f{number}": "x" for number in range(20)})
    target = tmp_path / "trees/x" / tree
    child = os.fork()
    if child == 0:
        original, count = os.fchmod, iter(range(100))
        # A kill -9 in the middle: no handler runs.
        export.os.fchmod = lambda *given: os._exit(9) if next(count) == 10 else original(*given)
        export_tree(repo, tree, target)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = list(target.parent.iterdir())
    assert len(left) == 1 and left[0].name.startswith(TEMPORARY_PREFIX)
    assert sweep(tmp_path / "trees", older_than_seconds=3600) == 0
    assert sweep(tmp_path / "trees", older_than_seconds=-1) == 1
    assert list(target.parent.iterdir()) == []
    assert export_tree(repo, tree, target) is True


def test_a_failure_leaves_nothing(repo, work, tmp_path, monkeypatch):
    tree = pushed(repo, work, FILES)
    target = tmp_path / "trees/x" / tree

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.os, "fchmod", full)
    with pytest.raises(OSError, match="No space left"):
        export_tree(repo, tree, target)
    assert list(target.parent.iterdir()) == []


def test_only_regular_files_are_exported(repo, work, tmp_path):
    os.symlink("/etc/passwd", work.folder / "link")
    tree = pushed(repo, work, FILES)
    with pytest.raises(InvalidInput, match="'link' cannot be exported"):
        export_tree(repo, tree, tmp_path / "trees/x" / tree)


@pytest.mark.parametrize("name", ["..", ".git", "."])
def test_paths_that_lead_out_are_not_exported(repo, work, tmp_path, name):
    from dulwich.objects import Blob, Tree

    from uhlp_state.git_objects import open_store

    blob, inner, outer = Blob.from_string(b"x"), Tree(), Tree()
    inner.add(b"f", 0o100644, blob.id)
    outer.add(name.encode(), 0o40000, inner.id)
    for made in (blob, inner, outer):
        open_store(repo).add_object(made)
    with pytest.raises(InvalidInput, match="cannot be exported"):
        export_tree(repo, outer.id.decode(), tmp_path / "trees/x/t")
    assert list((tmp_path / "trees/x").iterdir()) == []


def test_a_tree_that_is_not_there(repo, tmp_path):
    with pytest.raises(NotFound):
        export_tree(repo, "0" * 40, tmp_path / "trees/x/t")
