"""The state manager on real repos: reads, writes, refusals, and writers that meet."""

import multiprocessing
import os
import threading
import time

import pytest

from git.git_world import app_files
from git.writer_process import write_many
from uhlp_core.errors import Conflict, InvalidInput, NotFound, Unavailable
from uhlp_state import commits
from uhlp_state.commits import Author, move_branch, stage_commit
from uhlp_state.git_repo import heads
from uhlp_state.git_tree import GitTree
from uhlp_state.patch import PatchError
from uhlp_state.state_manager import DirectoryEntry, InvalidDefinition, StateManager

NOTES = "notes/a.txt"


@pytest.fixture
def app(world, tmp_path):
    """A state manager and an app with one commit."""
    repo, work = world.create(), world.clone(tmp_path / "work")
    assert work.push(repo).returncode == 0
    return StateManager(world.home, store=None), repo, work


def diff_of(old, new):
    return f"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-{old}\n+{new}\n"


async def test_reading(app):
    manager, _, work = app
    head = work.git("rev-parse", "HEAD")
    found = await manager.get_definition_file_content("hello", "app_definition.yaml")
    assert found.to_json() == {
        "found": True, "content": app_files("hello")["state/app_definition.yaml"], "revision": head,
    }  # fmt: skip
    missing = await manager.get_definition_file_content("hello", "nothing.yaml")
    assert (missing.found, missing.content, missing.revision) == (False, None, head)
    pool = await manager.get_state_value("hello", "app_definition.yaml", "sandboxPools.pools[0].poolName")
    assert (pool.found, pool.value) == (True, "python")
    for nowhere in ("sandboxPools.pools[1]", "sandboxPools[0]", "appId.x", "x"):
        assert not (await manager.get_state_value("hello", "app_definition.yaml", nowhere)).found
    assert (await manager.get_state_value("hello", "app_definition.yaml", "")).value["appId"] == "hello"
    for wrong in ("a..b", "a[", "a[x]", ".a", "a[0]b"):
        with pytest.raises(InvalidInput, match="is no path to a value"):
            await manager.get_state_value("hello", "app_definition.yaml", wrong)


async def test_listing(app):
    manager, _, _ = app
    listing = await manager.list_definition_directory("hello")
    assert listing.entries == (
        DirectoryEntry("_jit_code", "directory"),
        DirectoryEntry("app_definition.yaml", "file"),
        DirectoryEntry("component_registry.yaml", "file"),
    )
    everything = await manager.list_definition_directory("hello", "", True)
    assert DirectoryEntry("_jit_code/hello.py", "file") in everything.entries
    assert (await manager.list_definition_directory("hello", "_jit_code/")).entries == (
        DirectoryEntry("_jit_code/hello.py", "file"),
    )
    for missing in ("nothing", "app_definition.yaml"):
        with pytest.raises(NotFound, match="has no folder"):
            await manager.list_definition_directory("hello", missing)


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".git/config", "a/.GIT/x", "a\0b", "."]
)
async def test_paths_that_leave_the_state_are_refused(app, path):
    manager, repo, _ = app
    before = heads(repo)
    for attempt in (
        manager.get_definition_file_content("hello", path),
        manager.set_definition_file_content("hello", path, "x", "m"),
        manager.delete_definition_file("hello", path, "m"),
        manager.apply_definition_diff("hello", path, diff_of("a", "b"), "main", "m"),
        manager.get_state_value("hello", path, "a"),
    ):
        with pytest.raises(InvalidInput, match="is no path of a file"):
            await attempt
    assert heads(repo) == before


@pytest.mark.parametrize("app_id", ["../x", "Hello", "", "www", "a/b"])
async def test_ids_that_are_no_apps(app, app_id):
    manager, _, _ = app
    with pytest.raises(InvalidInput, match="cannot name an app"):
        await manager.get_definition_file_content(app_id, "x")


async def test_setting_and_deleting(app):
    manager, repo, work = app
    first = work.git("rev-parse", "HEAD")
    made = await manager.set_definition_file_content(
        "hello", NOTES, "hi\n", "Add notes", "Ann <ann@example.org>"
    )
    assert made.to_json() == {"success": True, "resultingRevision": heads(repo)["main"], "branch": "main"}
    shown = work.git("--git-dir", repo, "log", "-1", "--format=%an|%ae|%cn|%s|%P", made.resulting_revision)
    assert shown == f"Ann|ann@example.org|UHLP|Add notes|{first}"
    assert work.git("--git-dir", repo, "fsck") == ""
    again = await manager.set_definition_file_content("hello", NOTES, "hi\n", "again")
    assert again.resulting_revision == made.resulting_revision
    await manager.delete_definition_file("hello", NOTES, "Remove")
    assert work.git("--git-dir", repo, "diff", first, "main") == ""
    with pytest.raises(NotFound, match="has no file"):
        await manager.delete_definition_file("hello", NOTES, "Remove")
    with pytest.raises(InvalidInput, match="is a folder"):
        await manager.set_definition_file_content("hello", "_jit_code", "x", "m")
    with pytest.raises(InvalidInput, match="is a file"):
        await manager.set_definition_file_content("hello", "app_definition.yaml/x", "x", "m")
    with pytest.raises(InvalidInput, match="an author needs a name"):
        await manager.set_definition_file_content("hello", NOTES, "x", "m", "a\nb <c>")


async def test_what_would_break_the_app_is_not_written(app):
    manager, repo, _ = app
    before, objects = heads(repo), {p.name for p in (repo / "objects").rglob("*")}
    with pytest.raises(InvalidDefinition) as caught:
        await manager.set_definition_file_content("hello", "app_definition.yaml", "appId: [\n", "break")
    assert [problem.code for problem in caught.value.problems] == ["YAML_SYNTAX"]
    with pytest.raises(InvalidDefinition):
        await manager.delete_definition_file("hello", "_jit_code/hello.py", "break")
    assert heads(repo) == before
    assert {p.name for p in (repo / "objects").rglob("*")} == objects


async def test_a_new_branch_starts_at_production(app):
    manager, repo, work = app
    made = await manager.set_definition_file_content("hello", NOTES, "x\n", "m", branch="preview/dark")
    assert heads(repo) == {"main": work.git("rev-parse", "HEAD"), "preview/dark": made.resulting_revision}
    assert not (await manager.get_definition_file_content("hello", NOTES)).found
    assert (await manager.get_definition_file_content("hello", NOTES, branch="preview/dark")).content == "x\n"


async def test_diffs(app):
    manager, _, _ = app
    base = (await manager.set_definition_file_content("hello", NOTES, "one\n", "m")).resulting_revision
    made = await manager.apply_definition_diff("hello", NOTES, diff_of("one", "two"), base, "m")
    assert (await manager.get_definition_file_content("hello", NOTES)).content == "two\n"
    assert not made.merged
    with pytest.raises(PatchError, match="does not fit"):
        await manager.apply_definition_diff(
            "hello", NOTES, diff_of("one", "three"), made.resulting_revision, "m"
        )
    with pytest.raises(Conflict, match="line 1 has been changed to 'two' meanwhile"):
        await manager.apply_definition_diff("hello", NOTES, diff_of("one", "three"), base, "m")
    with pytest.raises(NotFound):
        await manager.apply_definition_diff("hello", NOTES, diff_of("one", "three"), "0" * 40, "m")
    new = "--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+x\n"
    await manager.apply_definition_diff("hello", "notes/new.txt", new, "main", "m")
    gone = "--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    await manager.apply_definition_diff("hello", "notes/new.txt", gone, "main", "m")
    assert not (await manager.get_definition_file_content("hello", "notes/new.txt")).found


async def test_changes_of_other_lines_are_merged(app):
    manager, _, _ = app
    text = "".join(f"{number}\n" for number in range(9))
    base = (await manager.set_definition_file_content("hello", NOTES, text, "m")).resulting_revision
    await manager.set_definition_file_content("hello", NOTES, text.replace("1\n", "one\n"), "m")
    made = await manager.apply_definition_diff("hello", NOTES, "@@ -8 +8 @@\n-7\n+seven\n", base, "m")
    assert made.merged
    merged = (await manager.get_definition_file_content("hello", NOTES)).content
    assert merged == text.replace("1\n", "one\n").replace("7\n", "seven\n")


async def test_a_base_of_another_line_of_history(app):
    manager, _, _ = app
    other = await manager.set_definition_file_content("hello", NOTES, "x\n", "m", branch="side")
    with pytest.raises(Conflict, match="does not contain"):
        await manager.apply_definition_diff("hello", NOTES, diff_of("x", "y"), other.resulting_revision, "m")


async def test_a_missing_app(world):
    with pytest.raises(NotFound, match="push to it to create it"):
        await StateManager(world.home, store=None).set_definition_file_content("hello", NOTES, "x", "m")


async def test_no_update_is_lost_between_processes_and_pushes(app, world, tmp_path):
    """Six processes write to files of their own and to one that they share, while people push."""
    manager, repo, _ = app
    workers, rounds = 6, 10
    shared = "".join(f"{worker}:0\n--\n" for worker in range(workers))
    await manager.set_definition_file_content("hello", "notes/shared.txt", shared, "start")
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=write_many, args=(world.home.root, worker, rounds))
        for worker in range(workers)
    ]
    for process in processes:
        process.start()
    person = world.clone(tmp_path / "person")
    person.git("fetch", "--quiet", repo, "main")
    person.git("reset", "--quiet", "--hard", "FETCH_HEAD")
    pushed = 0
    while any(process.is_alive() for process in processes):
        person.commit({f"state/notes/person{pushed}.txt": "x\n"})
        if person.push(repo).returncode == 0:
            pushed += 1
        else:
            person.git("fetch", "--quiet", repo, "main")
            person.git("reset", "--quiet", "--hard", "FETCH_HEAD")
    for process in processes:
        process.join()
        assert process.exitcode == 0
    everything = {entry.path for entry in GitTree.at(repo, heads(repo)["main"]).entries()}
    assert {f"state/notes/person{number}.txt" for number in range(pushed)} <= everything
    for worker in range(workers):
        own = await manager.get_definition_file_content("hello", f"notes/{worker}.txt")
        assert own.content == f"{rounds}\n"
    final = await manager.get_definition_file_content("hello", "notes/shared.txt")
    assert final.content == "".join(f"{worker}:{rounds}\n--\n" for worker in range(workers))
    work = world.clone(tmp_path / "counter")
    subjects = work.git("--git-dir", repo, "log", "--format=%s", "main").splitlines()
    assert sorted(s for s in subjects if s[0].isdigit()) == sorted(
        f"{worker}{mark}{count}"
        for worker in range(workers)
        for mark in ".+"
        for count in range(1, rounds + 1)
    )
    assert work.git("--git-dir", repo, "fsck", "--no-dangling") == ""


def staged(repo, parent, text="x\n"):
    made = stage_commit(repo, parent, {"state/notes/z.txt": text.encode()}, "m", Author("a", "b"))
    made.write(repo)
    return made.commit


async def test_a_branch_moves_only_from_where_it_was_seen(app):
    _, repo, work = app
    head = work.git("rev-parse", "HEAD")
    commit = staged(repo, head)
    assert not move_branch(repo, "main", None, commit)
    assert not move_branch(repo, "main", "1" * 40, commit)
    assert heads(repo)["main"] == head
    assert move_branch(repo, "main", head, commit)
    assert not move_branch(repo, "main", head, commit)
    assert heads(repo)["main"] == commit
    work.git("--git-dir", repo, "pack-refs", "--all")
    other = staged(repo, commit, "y\n")
    assert not move_branch(repo, "main", None, other)
    assert move_branch(repo, "main", commit, other)
    assert move_branch(repo, "new", None, other) and not move_branch(repo, "new", None, commit)
    with pytest.raises(InvalidInput, match="another branch is named like its folder"):
        move_branch(repo, "main/sub", None, other)


async def test_a_lock_left_by_a_killed_process_is_cleared(app):
    _, repo, work = app
    head = work.git("rev-parse", "HEAD")
    lock = repo / "refs/heads/main.lock"
    lock.touch()
    old = time.time() - commits.STALE_LOCK_SECONDS - 1
    os.utime(lock, (old, old))
    assert move_branch(repo, "main", head, staged(repo, head))
    assert not lock.exists()


async def test_a_lock_in_use_is_waited_for(app, monkeypatch):
    _, repo, work = app
    head = work.git("rev-parse", "HEAD")
    commit = staged(repo, head)
    lock = repo / "refs/heads/main.lock"
    lock.touch()
    releasing = threading.Timer(0.2, lock.unlink)
    releasing.start()
    assert move_branch(repo, "main", head, commit)
    releasing.join()
    lock.touch()
    monkeypatch.setattr(commits, "LOCK_WAIT_SECONDS", 0.1)
    with pytest.raises(Unavailable, match="locked by another process"):
        move_branch(repo, "main", commit, head)
    assert heads(repo)["main"] == commit
