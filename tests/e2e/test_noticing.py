"""A moved ref is noticed by the hook, by file events and by polling; each alone is enough.

Nothing but a ref that names another commit changes what is served; packing refs does not.
"""

from collections.abc import Callable

import pytest

from e2e.platform_under_test import ON_ONE_BACKEND, Platform, answering, app_files
from support.waiting import wait_until

pytestmark = ON_ONE_BACKEND

HANDLER = "state/_jit_code/root/v1/handler.py"
WITHOUT_HOOKS = "--receive-pack=git -c core.hooksPath=/dev/null receive-pack"


@pytest.mark.parametrize(
    ("settings", "push"),
    [
        pytest.param({"UHLP_REF_WATCH": "0", "UHLP_REF_POLL_SECONDS": "0"}, [], id="hook alone"),
        pytest.param(
            {"UHLP_REF_WATCH": "1", "UHLP_REF_POLL_SECONDS": "0"}, [WITHOUT_HOOKS], id="events alone"
        ),
        pytest.param({"UHLP_REF_WATCH": "0", "UHLP_REF_POLL_SECONDS": "1"}, [WITHOUT_HOOKS], id="poll alone"),
    ],
)
def test_each_way_alone_is_enough(
    fresh_platform: Callable[..., Platform], settings: dict[str, str], push: list[str]
) -> None:
    platform = fresh_platform(**settings)
    platform.start()
    clone = platform.create("app", app_files("app", answering("one")))
    clone.commit({HANDLER: answering("two")})
    assert clone.push(*push, "origin", "HEAD:main").code == 0
    wait_until(lambda: platform.answer("app") == {"answer": "two"}, "the new commit serves")
    # A branch in a folder that did not exist before is noticed too.
    clone.commit({HANDLER: answering("three")})
    assert clone.push(*push, "origin", "HEAD:preview/deep").code == 0
    wait_until(
        lambda: platform.request("GET", "/", app="deep--app").status == 200,
        "the preview of a branch in a new folder serves",
    )


def test_a_ref_moved_by_git_fetch_behind_our_back_is_deployed(platform: Platform) -> None:
    clone = platform.create("fetched", app_files("fetched", answering("one")))
    clone.commit({HANDLER: answering("two")})
    fetched = clone.git("--git-dir", str(platform.repo("fetched")), "fetch", str(clone.folder), "HEAD:main")
    assert fetched.code == 0
    wait_until(lambda: platform.answer("fetched") == {"answer": "two"}, "the fetched commit serves")


def test_an_invalid_commit_that_was_fetched_is_named_and_not_served(platform: Platform) -> None:
    clone = platform.create("smuggled", app_files("smuggled", answering("good")))
    bad = clone.commit({"state/app_definition.yaml": "appId: [\n"})
    clone.git("--git-dir", str(platform.repo("smuggled")), "fetch", str(clone.folder), "HEAD:main")

    def stalled() -> bool:
        (status,) = platform.uhlp("status", "smuggled", "--json").json["deployments"]
        return bool(status["stalled"] and status["reason"] == "InvalidState" and status["attempted"] == bad)

    wait_until(stalled, "the invalid commit is reported")
    assert platform.answer("smuggled") == {"answer": "good"}


def test_packing_refs_and_collecting_garbage_undeploy_nothing(platform: Platform) -> None:
    clone = platform.create("packed", app_files("packed", answering("one")))
    bare = ["--git-dir", str(platform.repo("packed"))]
    for command in (["pack-refs", "--all"], ["gc", "--prune=now", "--quiet"]):
        clone.git(*bare, *command)
        assert platform.answer("packed") == {"answer": "one"}
    clone.deploy({HANDLER: answering("two")})
    clone.git(*bare, "pack-refs", "--all", "--prune")
    clone.deploy({HANDLER: answering("three")})
    assert platform.answer("packed") == {"answer": "three"}
