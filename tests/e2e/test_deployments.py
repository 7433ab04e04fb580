"""Previews, suspension, deletion: what an app's branches and the platform repo make of it."""

import os
import signal
from collections.abc import Callable

from e2e.platform_under_test import ON_ONE_BACKEND, Platform, answering, app_files
from support.waiting import wait_until

HANDLER = "state/_jit_code/root/v1/handler.py"
COUNTING = (
    "import uhlp_sdk\n\n\ndef handle(input, context):\n"
    "    mode = context['applicationInfo']['deploymentMode']\n"
    "    return {'count': uhlp_sdk.state.increment('count'), 'mode': mode}\n"
)

KEEPING = (
    "import uhlp_sdk\n\n\ndef handle(input, context):\n"
    "    given = {'path': 'note', 'content': 'x', 'append': True}\n"
    "    uhlp_sdk.call_tool('core.filesystem.writeFile', given)\n"
    "    found = uhlp_sdk.call_tool('core.filesystem.readFile', {'path': 'note'})\n"
    "    return {'count': uhlp_sdk.state.increment('count'), 'size': found['size']}\n"
)


def test_a_preview_runs_beside_production_with_its_own_state(platform: Platform) -> None:
    clone = platform.create("tried", app_files("tried", COUNTING))
    assert platform.answer("tried") == {"count": 1, "mode": "production"}
    assert platform.answer("tried") == {"count": 2, "mode": "production"}
    pushed = clone.push("origin", "HEAD:preview/dark-mode")
    assert "✔ live at http://dark-mode--tried.localhost" in pushed.err
    assert "starts at its first request" in pushed.err
    assert platform.answer("dark-mode--tried") == {"count": 1, "mode": "staging"}
    assert platform.request("GET", "/apps/tried@dark-mode/").json == {"count": 2, "mode": "staging"}
    assert platform.answer("tried") == {"count": 3, "mode": "production"}

    assert clone.push("origin", ":preview/dark-mode").code == 0
    wait_until(
        lambda: platform.request("GET", "/", app="dark-mode--tried").status == 404, "the preview is gone"
    )
    assert platform.answer("tried") == {"count": 4, "mode": "production"}


def test_a_machine_proposal_can_be_tried_before_it_is_merged(platform: Platform) -> None:
    clone = platform.create("proposed", app_files("proposed", answering("now")))
    clone.commit({HANDLER: answering("proposed")})
    assert clone.push("origin", "HEAD:proposals/root/1").code == 0
    assert platform.answer("proposals-root-1--proposed") == {"answer": "proposed"}
    assert platform.answer("proposed") == {"answer": "now"}


def test_an_idle_preview_stops_and_comes_back(fresh_platform: Callable[..., Platform]) -> None:
    platform = fresh_platform(UHLP_PREVIEW_IDLE_SECONDS="1")
    platform.start()
    clone = platform.create("app", app_files("app", answering("main")))
    clone.push("origin", "HEAD:preview/idle")
    assert platform.answer("idle--app") == {"answer": "main"}

    def instances() -> int:
        found = platform.uhlp("status", "app", "--json").json["deployments"]
        preview = next(one for one in found if one["deployment"] == "app@idle")
        return sum(len(pool["instances"]) for pool in preview["pools"])

    wait_until(lambda: instances() == 0, "the idle preview stops")
    assert platform.answer("idle--app") == {"answer": "main"}


def test_a_preview_whose_code_cannot_be_loaded_says_so(platform: Platform) -> None:
    clone = platform.create("halfway", app_files("halfway", answering("main")))
    clone.commit({HANDLER: "import no_such_module\n" + answering("never")})
    clone.push("origin", "HEAD:preview/bad")
    answer = platform.request("GET", "/", app="bad--halfway")
    assert answer.status == 503
    assert answer.json["code"] == "REVISION_REFUSED"
    assert "no_such_module" in answer.json["detail"]


def test_suspend_refuses_requests_and_resume_brings_them_back(platform: Platform) -> None:
    platform.create("paused", app_files("paused", answering("here")))
    assert platform.uhlp("app", "suspend", "paused", "--reason", "maintenance").code == 0

    def suspended() -> bool:
        answer = platform.request("GET", "/", app="paused")
        return answer.status == 503 and answer.json["code"] == "APP_SUSPENDED"

    wait_until(suspended, "the app is suspended")
    log = platform.new_clone("platform")
    log.git("pull", "--quiet", "origin", "main")
    assert "paused" in (log.folder / "state" / "platform.yaml").read_text()
    assert platform.uhlp("app", "resume", "paused").code == 0
    wait_until(lambda: platform.request("GET", "/", app="paused").status == 200, "the app serves again")


def test_a_deleted_app_is_gone_and_can_be_brought_back(platform: Platform) -> None:
    platform.create("removed", app_files("removed", answering("here")))
    deleted = platform.uhlp("app", "delete", "removed", "--yes", "--json")
    assert deleted.code == 0, deleted.err
    wait_until(lambda: platform.request("GET", "/", app="removed").status == 404, "the app is gone")
    wait_until(
        lambda: (
            not any(one["app"] == "removed" for one in platform.uhlp("status", "--json").json["deployments"])
        ),
        "its status is gone",
    )
    (trash,) = (platform.home / "trash").glob("removed-*.git")
    trash.rename(platform.repo("removed"))
    wait_until(lambda: platform.request("GET", "/", app="removed").status == 200, "the app is back")


@ON_ONE_BACKEND
def test_the_next_app_of_a_purged_ones_name_finds_nothing_of_it(platform: Platform) -> None:
    clone = platform.create("purged", app_files("purged", KEEPING))
    assert clone.push("origin", "HEAD:preview/next").code == 0
    for app in ("purged", "next--purged"):
        assert platform.answer(app) == {"count": 1, "size": 1}
        assert platform.answer(app) == {"count": 2, "size": 2}
    purged = platform.uhlp("app", "delete", "purged", "--yes", "--purge")
    assert purged.code == 0, purged.err
    left = [path for path in platform.home.rglob("purged*") if "redis" not in path.parts]
    assert left == []
    platform.create("purged", app_files("purged", KEEPING))
    assert platform.answer("purged") == {"count": 1, "size": 1}


@ON_ONE_BACKEND
def test_most_apps_vanishing_at_once_is_taken_for_a_mistake(fresh_platform: Callable[..., Platform]) -> None:
    platform = fresh_platform()
    platform.start()
    names = ["one", "two", "three", "four"]
    for name in names:
        platform.create(name, app_files(name, answering(name)))
    aside = platform.home / "aside"
    aside.mkdir()
    # Stopped meanwhile: else it could see them go one by one, which is believed.
    registry = platform.pid_of("registry")
    os.kill(registry, signal.SIGSTOP)
    for name in names[:3]:
        platform.repo(name).rename(aside / platform.repo(name).name)
    os.kill(registry, signal.SIGCONT)
    wait_until(lambda: "missing from" in platform.log(), "the daemon says what it does not believe")
    # At most as many as may vanish at once are gone, and the rest serves on.
    served = [name for name in names if platform.request("GET", "/", app=name).status == 200]
    assert "four" in served
    for name in names[:3]:
        (aside / platform.repo(name).name).rename(platform.repo(name))
    for name in names:
        wait_until(lambda name=name: platform.request("GET", "/", app=name).status == 200, f"{name} serves")
