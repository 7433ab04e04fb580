"""What the cleanup daemon removes, and above all what it leaves alone."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from uhlp_core import keys
from uhlp_core.home import Home
from uhlp_core.store import Store
from uhlp_reconcilers.cleanup import KEPT_REVISIONS, MAX_LOG_BYTES, Cleanup
from uhlp_state.applied import applied_revision, note_applied
from uhlp_state.commits import move_branch, stage_commit
from uhlp_state.dependencies import Dependencies
from uhlp_state.export import export_tree, remove_tree
from uhlp_state.git_repo import create_repo, read_ref
from uhlp_state.model.pools import Language

LONG_AGO = time.time() - 7 * 24 * 3600


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="uc-") as folder:
        home = Home(Path(folder))
        home.create()
        yield home
        for tree in home.trees.glob("*/*"):
            remove_tree(tree)


def _commit(home: Home, app: str, text: str, branch: str = "main") -> tuple[str, str]:
    """One more commit on a branch of an app; its commit and tree ids. The tree is exported, long ago."""
    repo = home.repo(app)
    create_repo(repo, home.hooks, 1 << 20)
    parent = read_ref(repo, branch) or read_ref(repo, "main")
    files = {"state/note.txt": text.encode(), "state/requirements.txt": f"{text.split()[0]}==1\n".encode()}
    staged = stage_commit(repo, parent, files, text)
    staged.write(repo)
    assert move_branch(repo, branch, read_ref(repo, branch), staged.commit)
    target = home.trees / app / staged.tree
    export_tree(repo, staged.tree, target)
    os.utime(target, (LONG_AGO, LONG_AGO))
    return staged.commit, staged.tree


def _exported(home: Home, app: str) -> set[str]:
    return {path.name for path in (home.trees / app).iterdir()}


async def test_trees_stay_that_are_recent_served_last_good_or_the_head_of_a_branch(
    home: Home, redis: Store
) -> None:
    trees = [_commit(home, "app", f"revision {number}") for number in range(KEPT_REVISIONS + 4)]
    _, preview = _commit(home, "app", "preview", "preview/x")
    note_applied(home.repo("app"), "main", trees[1][0])
    await redis.sadd(keys.DEPLOYMENTS, "app")
    await redis.set(keys.routes("app"), orjson.dumps({"tree": trees[2][1]}))
    (home.trees / "app" / trees[3][1]).touch()
    await Cleanup(home, redis).sweep()
    kept = {tree for _, tree in trees[-KEPT_REVISIONS:]}
    assert _exported(home, "app") == kept | {preview, trees[1][1], trees[2][1], trees[3][1]}


async def test_an_unreadable_repo_loses_nothing(home: Home, redis: Store) -> None:
    for number in range(KEPT_REVISIONS + 2):
        _commit(home, "app", f"revision {number}")
    before = _exported(home, "app")
    (home.repo("app") / "refs" / "heads" / "main").write_text("not a commit\n")
    await Cleanup(home, redis).sweep()
    assert _exported(home, "app") == before


async def test_without_any_repo_nothing_is_taken_for_deleted(home: Home, redis: Store) -> None:
    _, tree = _commit(home, "app", "one")
    home.repo("app").rename(home.root / "aside")
    os.utime(home.trees / "app", (LONG_AGO, LONG_AGO))
    await Cleanup(home, redis).sweep()
    assert _exported(home, "app") == {tree}


async def test_the_trees_of_a_deleted_app_go_after_a_while(home: Home, redis: Store) -> None:
    _commit(home, "gone", "one")
    _commit(home, "stays", "one")
    home.repo("gone").rename(home.trash / "gone-1.git")
    await Cleanup(home, redis).sweep()
    assert (home.trees / "gone").is_dir()
    os.utime(home.trees / "gone", (LONG_AGO, LONG_AGO))
    await Cleanup(home, redis).sweep()
    assert not (home.trees / "gone").exists()
    assert (home.trees / "stays").is_dir()


def _environment(home: Home, package: str) -> Path:
    """The packages of a commit whose text begins so, installed long ago."""
    found = Dependencies(Language.PYTHON, {"requirements.txt": f"{package}==1\n".encode()})
    folder = home.environments / found.digest
    (folder / "target" / "packages").mkdir(parents=True)
    (folder / "target").chmod(0o555)
    os.utime(folder, (LONG_AGO, LONG_AGO))
    return folder


async def test_packages_stay_while_any_revision_names_them_and_for_a_while_longer(
    home: Home, redis: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _commit(home, "app", "older")
    _commit(home, "app", "newest")
    _commit(home, "other", "elsewhere")
    named = [_environment(home, text) for text in ("older", "newest", "elsewhere")]
    unnamed, asked_for_lately = _environment(home, "nobody"), _environment(home, "returning")
    cleanup = Cleanup(home, redis)
    await cleanup.sweep()
    assert unnamed.is_dir()

    monkeypatch.setattr("uhlp_reconcilers.cleanup.ENVIRONMENT_GRACE", 0.0)
    head = home.repo("other") / "refs" / "heads" / "main"
    head.rename(home.root / "aside")
    head.write_text("not a commit\n")
    await cleanup.sweep()
    assert unnamed.is_dir(), "what one app wants is not known"

    (home.root / "aside").replace(head)
    os.utime(asked_for_lately, (time.time() + 60, time.time() + 60))
    await cleanup.sweep()
    assert set(home.environments.iterdir()) == {*named, asked_for_lately}


async def test_locks_of_killed_processes_go_and_fresh_ones_stay(home: Home, redis: Store) -> None:
    _commit(home, "app", "one")
    stale, fresh = (home.repo("app") / "refs" / "heads" / name for name in ("main.lock", "other.lock"))
    stale.touch()
    os.utime(stale, (LONG_AGO, LONG_AGO))
    fresh.touch()
    await Cleanup(home, redis).sweep()
    assert (stale.exists(), fresh.exists()) == (False, True)


async def test_the_last_good_revision_of_a_branch_that_is_gone_is_forgotten(home: Home, redis: Store) -> None:
    main, _ = _commit(home, "app", "one")
    preview, _ = _commit(home, "app", "two", "preview/x")
    note_applied(home.repo("app"), "main", main)
    note_applied(home.repo("app"), "preview/x", preview)
    subprocess.run(["git", "-C", home.repo("app"), "branch", "-qD", "preview/x"], check=True)
    await Cleanup(home, redis).sweep()
    assert applied_revision(home.repo("app"), "main") == main
    assert applied_revision(home.repo("app"), "preview/x") is None


async def test_a_log_is_rotated_under_the_hands_of_its_writers(home: Home, redis: Store) -> None:
    _commit(home, "app", "one")
    log = home.app_log("app")
    log.parent.mkdir(parents=True)
    with log.open("ab") as writer:
        writer.write(b"x" * (MAX_LOG_BYTES + 1))
        writer.flush()
        await Cleanup(home, redis).sweep()
        writer.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    assert log.with_name("app.log.1").stat().st_size == MAX_LOG_BYTES + 1


async def test_what_previews_kept_goes_with_their_branches_and_nothing_else_does(
    home: Home, redis: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _commit(home, "app", "one")
    _commit(home, "app", "two", "preview/alive")
    _commit(home, "apple", "three")
    kept = [
        f"{root}/{name}/f" for root in ("data", "mcp") for name in ("app", "app@alive", "app@gone", "apple@x")
    ]
    for path in kept:
        (home.root / path).parent.mkdir(parents=True)
        (home.root / path).write_text("x")
    cleanup = Cleanup(home, redis)
    await cleanup.sweep()
    assert [path for path in kept if not (home.root / path).exists()] == []
    monkeypatch.setattr("uhlp_reconcilers.cleanup.ORPHAN_GRACE", 0.0)
    await cleanup.sweep()
    assert [path for path in kept if not (home.root / path).exists()] == [
        "data/app@gone/f",
        "data/apple@x/f",
        "mcp/app@gone/f",
        "mcp/apple@x/f",
    ]


async def test_a_long_audit_log_is_put_aside_whole(home: Home, redis: Store) -> None:
    _commit(home, "app", "one")
    log = home.app_log("app").with_name("audit.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    await Cleanup(home, redis).sweep()
    assert not log.exists()
    (aside,) = log.parent.glob("audit-*.log")
    assert aside.stat().st_size == MAX_LOG_BYTES + 1
