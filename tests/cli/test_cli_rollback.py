"""`uhlp rollback`: which revision, what the commit says, that nothing is overwritten, and waiting."""

import json
import threading
from typing import Any

import pytest

from support.waiting import wait_until
from uhlp_cli import committing
from uhlp_core import keys
from uhlp_core.errors import Conflict
from uhlp_core.status import Phase, Report


def test_by_default_to_the_nearest_ancestor_with_other_content(uhlp, hello) -> None:
    first = hello.commit("First page", page="one")
    second = hello.commit("Second page", page="two")
    empty = hello.commit("Say nothing new")
    document = uhlp.json("rollback", "hello", "--no-wait")
    head = uhlp.git("hello", "rev-parse", "main")
    assert document == {
        "app": "hello",
        "commit": head,
        "target": first,
        "undone": [f"{empty[:7]} Say nothing new", f"{second[:7]} Second page"],
        "live": None,
        "message": "",
    }
    assert uhlp.git("hello", "rev-parse", f"{head}^", f"{head}^{{tree}}").splitlines() == [
        empty,
        uhlp.git("hello", "rev-parse", f"{first}^{{tree}}"),
    ]
    assert uhlp.git("hello", "log", "-1", "--format=%an <%ae>%n%B", head) == (
        "Ada <ada@example.org>\n"
        f"Rollback to {first[:7]}: First page\n\n"
        f"Undoes:\n  {empty[:7]} Say nothing new\n  {second[:7]} Second page\n"
    ).rstrip("\n")


def test_by_default_to_what_serves_if_the_newest_does_not(uhlp, hello) -> None:
    good = hello.commit("Good", page="good")
    hello.commit("Bad", page="bad")
    hello.commit("Worse", page="worse")
    uhlp.git("hello", "update-ref", "refs/uhlp/applied/main", good)
    assert uhlp.json("rollback", "hello", "--no-wait")["target"] == good


def test_what_serves_already_is_no_target(uhlp, hello) -> None:
    first = hello.commit("One", page="one")
    second = hello.commit("Two", page="two")
    uhlp.git("hello", "update-ref", "refs/uhlp/applied/main", second)
    assert uhlp.json("rollback", "hello", "--no-wait")["target"] == first


@pytest.mark.parametrize("name", ["full", "short", "tag"])
def test_to_a_named_revision_with_a_reason(uhlp, hello, name: str) -> None:
    first = hello.commit("One", page="one")
    hello.git("tag", "v1")
    hello.git("push", "--quiet", "origin", "v1")
    hello.commit("Two", page="two")
    revision = {"full": first, "short": first[:10], "tag": "v1"}[name]
    uhlp("rollback", "hello", "--to", revision, "-m", "Two was too much", "--no-wait")
    assert "\n\nTwo was too much\n\nUndoes:\n" in uhlp.git("hello", "log", "-1", "--format=%B")
    hello.git("pull", "--quiet")
    assert (hello.folder / "state/ui/page.txt").read_text() == "one"


@pytest.mark.parametrize("revision", ["nothing", "0" * 40, "--all", "main:state", ""])
def test_an_unknown_revision_changes_nothing(uhlp, hello, revision: str) -> None:
    head = hello.commit("One", page="one")
    result = uhlp.json("rollback", "hello", f"--to={revision}", "--no-wait", code=1)
    assert result["error"]["code"] == "REVISION_NOT_FOUND"
    assert uhlp.git("hello", "rev-parse", "main") == head


def test_the_same_content_is_no_rollback(uhlp, hello) -> None:
    assert uhlp.json("rollback", "hello", "--to", "main", code=2)["error"]["code"] == "NOTHING_TO_DO"
    assert uhlp.json("rollback", "hello", code=1)["error"]["code"] == "NOTHING_EARLIER"


def test_a_revision_that_a_push_would_refuse_is_refused(uhlp, hello) -> None:
    broken = committing.stage_commit(
        uhlp.home.repo("hello"), hello.git("rev-parse", "HEAD"), {"state/app_definition.yaml": b"{"}, "Broken"
    )
    broken.write(uhlp.home.repo("hello"))
    head = hello.commit("One", page="one")
    error = uhlp.json("rollback", "hello", "--to", broken.commit, code=1)["error"]
    assert error["code"] == "INVALID_STATE"
    assert "state/app_definition.yaml:2:1 YAML_SYNTAX" in error["message"]
    assert uhlp.git("hello", "rev-parse", "main") == head


def test_a_push_in_between_wins(uhlp, hello) -> None:
    first = hello.commit("One", page="one")
    head = hello.commit("Two", page="two")
    repo = uhlp.home.repo("hello")
    tree = uhlp.git("hello", "rev-parse", f"{first}^{{tree}}")
    with pytest.raises(Conflict, match="moved meanwhile"):
        committing.commit_tree(repo, first, tree, "Rollback from what is not the head any more")
    assert uhlp.git("hello", "rev-parse", "main") == head


class Daemons:
    """Reports the newest commit as the real daemons would: live, or stalled."""

    def __init__(self, uhlp: Any, store: Any, report: Report) -> None:
        self._uhlp, self._store, self._report = uhlp, store, report
        self._before = uhlp.git("hello", "rev-parse", "main")
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        wait_until(lambda: self._uhlp.git("hello", "rev-parse", "main") != self._before, "main has moved")
        commit = self._uhlp.git("hello", "rev-parse", "main")
        document = {**self._report.to_json(), "attempted": commit}
        if self._report.phase == Phase.READY:
            document["applied"] = commit
        self._store.hset(keys.status("hello"), "routes", json.dumps(document))


def test_waits_until_it_is_live(uhlp, hello, store) -> None:
    hello.commit("One", page="one")
    Daemons(uhlp, store, Report(Phase.READY, "Live"))
    assert uhlp.json("rollback", "hello")["live"] is True


def test_tells_that_it_is_refused(uhlp, hello, store) -> None:
    hello.commit("One", page="one")
    Daemons(uhlp, store, Report(Phase.STALLED, "HandlerImportFailed", message="handler.py:1"))
    result = uhlp("rollback", "hello", code=1)
    assert "✘ not live: HandlerImportFailed: handler.py:1" in result.stdout


def test_tells_that_it_takes_too_long(uhlp, hello, store) -> None:
    hello.commit("One", page="one")
    document = uhlp.json("rollback", "hello", "--timeout", "0", code=1)
    assert document["live"] is False
    assert document["commit"] == uhlp.git("hello", "rev-parse", "main")


def test_without_redis_the_commit_is_made_and_told(uhlp, hello) -> None:
    hello.commit("One", page="one")
    document = uhlp.json("rollback", "hello", code=3)
    assert document["commit"] == uhlp.git("hello", "rev-parse", "main")
    assert document["error"]["code"] == "REDIS_UNREACHABLE"
