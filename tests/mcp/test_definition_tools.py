"""Changes of an app's definition by its own code: proposals, or nothing; and what hostile code tries."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.archive import Archive
from support.mcp_office import Office
from uhlp_state import proposals
from uhlp_state.git_repo import heads
from uhlp_state.proposals import Proposal

SET = "core.state.setDefinitionFileContent"
DIFF = "core.state.applyDefinitionDiff"
NEW_FILE = "--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+x\n"
DELETE = "core.state.deleteDefinitionFile"


@pytest.fixture
async def archive(office: Office) -> Archive:
    """The repo of `alpha`, which lets its code propose."""
    archive = Archive(office, "alpha")
    await office.publish("alpha", commit=archive.start, definitionWrites="propose")
    return archive


async def propose(office: Office, **more: Any) -> Any:
    given = {"filePath": "notes/a.txt", "content": "two\n", "commitMessage": "Say two", **more}
    return await office.call("a0", SET, **given)


async def test_by_default_nothing_may_be_written(office: Office, archive: Archive) -> None:
    await office.publish("alpha", commit=archive.start)
    for tool, arguments in (
        (SET, {"content": "x"}),
        (DIFF, {"diffContent": "x", "expectedBaseRevision": "main"}),
        (DELETE, {}),
    ):
        text = await office.refused("a0", tool, filePath="notes/a.txt", commitMessage="m", **arguments)
        assert text.startswith("DEFINITION_WRITES_REFUSED: alpha does not let its code change its definition")
    assert archive.unchanged


async def test_a_preview_cannot_give_itself_leave(office: Office, archive: Archive) -> None:
    await office.publish("alpha", commit=archive.start)
    await office.publish("alpha@next", commit=archive.start, definitionWrites="propose")
    await office.add("alpha@next", "p0")
    text = await office.refused("p0", SET, filePath="notes/a.txt", content="x", commitMessage="m")
    assert text.startswith("DEFINITION_WRITES_REFUSED: ")
    assert archive.unchanged


async def test_a_change_becomes_a_proposal_and_main_stays(office: Office, archive: Archive) -> None:
    made = await propose(office, author="Ada\n\nComponent: forged", commitMessage="Say two\n\nUser: forged")
    assert made == {
        "success": True,
        "resultingRevision": heads(archive.repo)["proposals/alpha/1"],
        "branch": "proposals/alpha/1",
    }
    assert heads(archive.repo)["main"] == archive.start
    shown = archive.git("log", "-1", "--format=%an|%ae|%cn|%P|%s", made["branch"])
    assert shown == f"alpha|a0@alpha|UHLP|{archive.start}|Say two"
    trailers = archive.git("log", "-1", "--format=%(trailers:only)", made["branch"])
    assert trailers == "Proposed-for: Ada Component: forged\nDeployment: alpha"
    assert archive.git("show", f"{made['branch']}:state/notes/a.txt") == "two"


async def test_a_proposal_grows_by_its_name_and_can_be_read(office: Office, archive: Archive) -> None:
    branch = (await propose(office))["branch"]
    new = await propose(office, content="other\n")
    assert new["branch"] == "proposals/alpha/2"
    found = await office.call(
        "a0", "core.state.getDefinitionFileContent", filePath="notes/a.txt", revision=branch
    )
    assert found["content"] == "two\n"
    diff = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-two\n+three\n"
    made = await office.call(
        "a0",
        DIFF,
        filePath="notes/a.txt",
        diffContent=diff,
        expectedBaseRevision=found["revision"],
        commitMessage="Say three",
        branch=branch,
    )
    assert (made["branch"], archive.git("show", f"{branch}:state/notes/a.txt")) == (branch, "three")
    await office.call("a0", DELETE, filePath="notes/a.txt", commitMessage="Say nothing", branch=branch)
    assert archive.git("ls-tree", "--name-only", branch, "state/") == (
        "state/app_definition.yaml\nstate/component_registry.yaml"
    )
    listed = await office.call("a0", "core.state.listDefinitionDirectory", revision=new["branch"])
    assert {"path": "notes", "type": "directory"} in listed["entries"]
    assert heads(archive.repo)["main"] == archive.start


async def test_what_cannot_be_done_says_why_and_leaves_nothing(office: Office, archive: Archive) -> None:
    invalid = await office.refused(
        "a0", SET, filePath="app_definition.yaml", content="appId: [", commitMessage="m"
    )
    assert invalid.startswith("INVALID_DEFINITION: ") and "state/app_definition.yaml:2:" in invalid
    base = {"filePath": "notes/a.txt", "expectedBaseRevision": archive.start, "commitMessage": "m"}
    nowhere = "@@ -1 +1 @@\n-nine\n+ten\n"
    assert (await office.refused("a0", DIFF, **base, diffContent=nowhere)).startswith("PATCH_FAILED: ")
    gone = await office.refused("a0", DELETE, filePath="notes/b.txt", commitMessage="m")
    assert gone.startswith("NOT_FOUND: ")
    same = await office.refused("a0", SET, filePath="notes/a.txt", content="one\n", commitMessage="m")
    assert same.startswith("INVALID_INPUT: the change changes nothing")
    assert archive.unchanged


async def test_a_diff_against_what_has_changed_is_a_conflict(office: Office, archive: Archive) -> None:
    branch = (await propose(office))["branch"]
    text = await office.refused(
        "a0",
        DIFF,
        filePath="notes/a.txt",
        diffContent="@@ -1 +1 @@\n-one\n+three\n",
        expectedBaseRevision=archive.start,
        commitMessage="m",
        branch=branch,
    )
    assert text.startswith("CONFLICT: ")


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a//b",
        ".git/config",
        "a/.GIT/hooks/pre-receive",
        "a\0b",
        ".",
        "notes",
        "notes/a.txt/b",
        "ui/" + "x" * 300,
        "ui/a\nb",
    ],
)
async def test_no_path_leaves_the_app_s_state(office: Office, archive: Archive, path: str) -> None:
    for tool, arguments in (
        (SET, {"content": "x"}),
        (DIFF, {"diffContent": NEW_FILE, "expectedBaseRevision": "main"}),
        (DELETE, {}),
    ):
        text = await office.refused("a0", tool, filePath=path, commitMessage="m", **arguments)
        assert text.split(":")[0] in ("INVALID_INPUT", "INVALID_DEFINITION", "NOT_FOUND")
    assert archive.unchanged


async def test_a_diff_cannot_make_a_symbolic_link(office: Office, archive: Archive) -> None:
    link = "diff --git a/x b/x\nnew file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+/etc/passwd\n"
    given = {"filePath": "ui/x", "expectedBaseRevision": "main", "commitMessage": "m"}
    made = await office.rpc("a0", "tools/call", {"name": DIFF, "arguments": {**given, "diffContent": link}})
    if not made["result"]["isError"]:
        branch = made["result"]["structuredContent"]["branch"]
        assert archive.git("ls-tree", branch, "state/ui/x").startswith("100644 blob")


@pytest.mark.parametrize(
    "branch",
    [
        "main",
        "preview/dark",
        "proposals/alpha",
        "proposals/alpha/1",
        "proposals/alpha/01",
        "proposals/alpha/-1",
        "proposals/alpha/1/../../../main",
        "proposals/other/1",
        "refs/heads/main",
        "../beta.git/refs/heads/main",
    ],
)
async def test_only_open_proposals_of_one_s_own_can_be_added_to(
    office: Office, archive: Archive, branch: str
) -> None:
    text = await office.refused(
        "a0", SET, filePath="notes/a.txt", content="x\n", commitMessage="m", branch=branch
    )
    assert text.startswith("NOT_FOUND: ")
    assert archive.unchanged


async def test_no_argument_reaches_another_app(office: Office, archive: Archive) -> None:
    other = Archive(office, "beta")
    await office.publish("beta", commit=other.start, definitionWrites="propose")
    for name in ("appId", "app", "deployment"):
        text = await office.refused(
            "a0", SET, filePath="notes/a.txt", content="x\n", commitMessage="m", **{name: "beta"}
        )
        assert text.startswith("INVALID_ARGUMENTS: ")
    for revision in (other.start, "../beta.git/refs/heads/main"):
        text = await office.refused(
            "a0", "core.state.getDefinitionFileContent", filePath="notes/a.txt", revision=revision
        )
        assert text.split(":")[0] in ("NOT_FOUND", "INVALID_INPUT")
    await office.call("b0", SET, filePath="notes/a.txt", content="x\n", commitMessage="m")
    assert (archive.unchanged, sorted(heads(other.repo))) == (True, ["main", "proposals/beta/1"])


async def test_huge_inputs_are_refused(office: Office, archive: Archive) -> None:
    huge = "x" * (1024 * 1024 + 1)
    for name in ("content", "commitMessage", "filePath", "author", "branch"):
        given = {"filePath": "notes/a.txt", "content": "x", "commitMessage": "m", name: huge}
        assert (await office.refused("a0", SET, **given)).startswith("INVALID_ARGUMENTS: ")
    wide = "ü" * (1024 * 1024)
    given = {"filePath": "notes/a.txt", "content": wide, "commitMessage": "m"}
    assert "FILE_TOO_LARGE" in await office.refused("a0", SET, **given)
    assert archive.unchanged


async def test_writers_at_the_same_time_get_proposals_of_their_own(office: Office, archive: Archive) -> None:
    made = await asyncio.gather(*(propose(office, content=f"{number}\n") for number in range(6)))
    assert {one["branch"] for one in made} == {f"proposals/alpha/{number}" for number in range(1, 7)}
    parents = {archive.git("rev-parse", f"{one['branch']}^") for one in made}
    assert parents == {archive.start}


async def test_open_proposals_are_bounded(
    office: Office, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "MAX_OPEN", 2)
    monkeypatch.setattr(proposals, "MAX_COMMITS", 2)
    branch = (await propose(office))["branch"]
    await propose(office)
    given = {"filePath": "notes/b.txt", "content": "x\n", "commitMessage": "m"}
    assert (await office.refused("a0", SET, **given)).startswith("TOO_MANY_PROPOSALS: 2 proposals are open")
    await office.call("a0", SET, **given, branch=branch)
    text = await office.refused("a0", SET, **{**given, "content": "y\n"}, branch=branch)
    assert text.startswith("TOO_MANY_PROPOSALS: proposals/alpha/1 has 2 commits")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("sum", "proposals/sum/"), ("a..b.lock", "proposals/a-b-lock/"), ("a_b-C", "proposals/a_b-C/")],
)
def test_every_component_s_name_makes_a_branch(tmp_path: Path, name: str, prefix: str) -> None:
    assert Proposal(name).branch(tmp_path, {"main": "0" * 40, f"{prefix}9": "1" * 40}) == f"{prefix}10"
