"""Pushes by path with the real Git client: what is taken, what is refused, and what the pusher reads."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from uhlp_state.git_repo import heads

BROKEN = {"state/app_definition.yaml": "appId: hello\nsandboxPools: [\n"}


def objects_of(repo):
    return {path.name for path in (repo / "objects").rglob("*") if path.is_file()}


@pytest.fixture(params=["daemon", "fallback"])
def judged(request, world):
    """Every rule holds whether the daemon judges or the hook itself does."""
    if request.param == "daemon":
        request.getfixturevalue("receiver")
    return world


def test_a_valid_push_is_taken(judged, tmp_path):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    done = work.push(repo)
    assert done.returncode == 0, done.stderr
    assert "✔ validated main (3 files)" in done.stderr
    assert heads(repo) == {"main": work.git("rev-parse", "HEAD")}


def test_a_refused_push_names_the_place_and_leaves_no_object(judged, tmp_path):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    work.commit(BROKEN)
    before = objects_of(repo)
    done = work.push(repo)
    assert done.returncode == 1
    assert "✘ main: 1 problem in 1 file" in done.stderr
    assert "state/app_definition.yaml:3:1 YAML_SYNTAX" in done.stderr
    assert "fix:" in done.stderr
    assert heads(repo) == {}
    assert objects_of(repo) == before == set()


def test_main_can_neither_be_deleted_nor_rewritten(judged, tmp_path):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    first = work.git("rev-parse", "HEAD")
    work.push(repo)
    deleted = work.push(repo, ":main")
    assert deleted.returncode == 1 and "cannot be deleted" in deleted.stderr
    work.git("commit", "--quiet", "--amend", "-m", "rewritten")
    forced = work.push(repo, "+main")
    assert forced.returncode == 1 and "cannot be rewritten" in forced.stderr and "git revert" in forced.stderr
    assert heads(repo) == {"main": first}


def test_other_branches_are_kept_validated_rewritten_and_deleted(judged, tmp_path):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    assert work.push(repo, "main", "main:preview/dark", "main:notes").returncode == 0
    work.git("commit", "--quiet", "--amend", "-m", "rewritten")
    rewritten = work.git("rev-parse", "HEAD")
    assert work.push(repo, "+main:preview/dark").returncode == 0
    assert heads(repo)["preview/dark"] == rewritten
    assert work.push(repo, ":notes").returncode == 0
    work.commit(BROKEN)
    assert work.push(repo, "main:preview/dark").returncode == 1
    assert heads(repo)["preview/dark"] == rewritten
    assert set(heads(repo)) == {"main", "preview/dark"}


def test_one_bad_branch_refuses_the_whole_push(judged, tmp_path):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    work.git("branch", "good")
    work.commit(BROKEN)
    done = work.push(repo, "main", "good")
    assert done.returncode == 1
    assert heads(repo) == {}


@pytest.mark.parametrize("ref", ["refs/notes/commits", "refs/other/thing"])
def test_only_branches_and_tags_can_be_pushed(judged, tmp_path, ref):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    done = work.push(repo, f"main:{ref}")
    assert done.returncode == 1 and "only branches" in done.stderr


def test_the_platforms_own_refs_are_hidden(judged, tmp_path):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    done = work.push(repo, "main:refs/uhlp/applied/main")
    assert done.returncode == 1 and "hidden ref" in done.stderr


def test_a_branch_name_with_a_line_separator_is_one_name(judged, tmp_path):
    """U+2028 ends a line for Unicode, but not for Git."""
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    branch = f"x\u2028{'0' * 40}"
    assert work.push(repo, f"main:refs/heads/{branch}").returncode == 0
    work.git("--git-dir", repo, "pack-refs", "--all")
    assert heads(repo) == {branch: work.git("rev-parse", "HEAD")}
    work.commit(BROKEN)
    assert work.push(repo, f"main:refs/heads/{branch}").returncode == 1


def test_tags_are_taken(judged, tmp_path):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    work.git("tag", "-a", "v1", "-m", "one")
    assert work.push(repo, "main", "v1").returncode == 0
    assert (repo / "refs/tags/v1").exists()


def test_the_platform_repo_is_judged_by_its_own_rules(judged, tmp_path):
    repo = judged.create("platform")
    work = judged.clone(tmp_path / "work", "platform")
    work.commit({"state/platform.yaml": "quotas:\n  maxApps: many\n"})
    refused = work.push(repo)
    assert refused.returncode == 1 and "state/platform.yaml:2:" in refused.stderr
    work.commit({"state/platform.yaml": "quotas:\n  maxApps: 3\n"})
    done = work.push(repo)
    assert done.returncode == 0, done.stderr


def test_a_long_list_of_problems_is_cut(judged, tmp_path):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    work.commit({f"state/prompts/p{number:03}.yaml": "a: [\n" for number in range(80)})
    done = work.push(repo)
    assert done.returncode == 1
    assert "✘ main: 80 problems in 80 files" in done.stderr
    assert done.stderr.count("YAML_SYNTAX") == 50
    assert "… and 30 more" in done.stderr


def test_names_in_a_push_cannot_speak_to_the_terminal(judged, tmp_path):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    work.commit({"state/prompts/\x1b[2Jx.yaml": "a: [\n"})
    done = work.push(repo)
    assert done.returncode == 1
    assert "\x1b[2J" not in done.stderr and "\\x1b[2Jx.yaml" in done.stderr


def test_links_and_submodules_are_refused(judged, tmp_path):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    os.symlink("/etc/passwd", work.folder / "state/link")
    work.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},state/module")
    work.git("add", "state/link")
    work.git("commit", "--quiet", "-m", "links")
    done = work.push(repo)
    assert done.returncode == 1
    assert "SYMLINK" in done.stderr and "SUBMODULE" in done.stderr


def test_a_few_bytes_that_unfold_to_billions_of_files_are_refused(judged, tmp_path):
    repo, work = judged.create(), judged.clone(tmp_path / "work")
    blob = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"],
        cwd=work.folder,
        input="x",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    line = f"100644 blob {blob}\tf\n"
    for _ in range(12):
        tree = subprocess.run(
            ["git", "mktree"], cwd=work.folder, input=line, capture_output=True, text=True, check=True
        ).stdout.strip()
        line = "".join(f"040000 tree {tree}\td{number}\n" for number in range(10))
    commit = work.git("commit-tree", tree, "-m", "bomb")
    done = work.push(repo, f"{commit}:refs/heads/main")
    assert done.returncode == 1 and "more than 50000 files and folders" in done.stderr


def test_the_daemon_is_told_who_pushes_and_what(world, receiver, tmp_path):
    repo, work = world.create(), world.clone(tmp_path / "work")
    done = work.push(repo)
    assert 'live — "at once"' in done.stderr
    before, after = receiver.requests
    update = ["0" * 40, work.git("rev-parse", "HEAD"), "refs/heads/main"]
    assert before["op"] == "pre-receive" and before["updates"] == [update] and before["pusher"] == "tester"
    assert before["repo"] == str(repo) and "/objects/" in before["objects"]
    assert [Path(folder) for folder in before["alternates"]] == [repo / "objects"]
    assert after["op"] == "post-receive" and after["updates"] == [update] and after["objects"] is None
    assert after["wait"] == 1.0


def test_no_wait(world, receiver, tmp_path):
    repo, work = world.create(), world.clone(tmp_path / "work")
    assert work.run("push", "-o", "no-wait", repo, "main").returncode == 0
    assert receiver.requests[-1]["wait"] == 0.0


def test_without_the_daemon_the_pusher_learns_what_comes(world, tmp_path):
    repo, work = world.create(), world.clone(tmp_path / "work")
    done = work.push(repo)
    assert done.returncode == 0
    assert "it goes live when that runs again" in done.stderr


def test_a_daemon_that_hangs_up_is_replaced_by_the_hooks_own_judgement(world, tmp_path):
    """It accepts and closes, as a daemon does that is killed in the middle."""
    repo, work = world.create(), world.clone(tmp_path / "work")
    work.commit(BROKEN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(world.home.receive_socket))
        listener.listen()
        pushing = subprocess.Popen(
            ["git", "push", str(repo), "main"], cwd=work.folder, stderr=subprocess.PIPE, text=True
        )
        listener.accept()[0].close()
        _, told = pushing.communicate(timeout=30)
    assert pushing.returncode == 1 and "YAML_SYNTAX" in told


def test_a_daemon_that_says_nothing_does_not_hang_the_push(world, tmp_path):
    """The listener never accepts: the verdict is the hook's own, the last word comes after wait and grace."""
    hook = world.home.hooks / "pre-receive"
    hook.write_text(hook.read_text().replace("VERDICT_SECONDS = 30.0", "VERDICT_SECONDS = 0.2"))
    post = world.home.hooks / "post-receive"
    post.write_text(post.read_text().replace("GRACE_SECONDS = 5.0", "GRACE_SECONDS = 0.1"))
    repo, work = world.create(), world.clone(tmp_path / "work")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(world.home.receive_socket))
        listener.listen()
        done = work.push(repo)
    assert done.returncode == 0 and "✔ validated main" in done.stderr
