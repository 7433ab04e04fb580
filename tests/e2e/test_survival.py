"""Any daemon can be killed at any moment: no commit is lost, no healthy revision stops answering."""

import os
import shutil
import signal
import threading
from collections.abc import Callable

import pytest

from e2e.load import Load
from e2e.platform_under_test import ON_ONE_BACKEND, Clone, Platform, answering, app_files
from support.waiting import wait_until

HANDLER = "state/_jit_code/root/v1/handler.py"
DAEMONS = ("registry", "sandboxes", "routes", "cleanup", "control", "mcp", "redis")


@pytest.mark.parametrize(
    ("isolation", "daemon"),
    [("process", daemon) for daemon in DAEMONS] + [("docker", "sandboxes")],
    indirect=["isolation"],
)
def test_killing_a_daemon_under_load_fails_no_request_and_loses_no_push(
    fresh_platform: Callable[..., Platform], daemon: str
) -> None:
    platform = fresh_platform()
    platform.start()
    clone = platform.create("app", app_files("app", answering("0")))
    with Load(platform, "app", {str(number) for number in range(6)}) as load:
        for number in range(1, 6):
            clone.commit({HANDLER: answering(str(number))}, f"Number {number}")
            killer = threading.Thread(target=platform.kill, args=(daemon,))
            killer.start()
            pushed = _push_until_stored(clone)
            killer.join()
            assert pushed == clone.head()
        wait_until(lambda: platform.answer("app") == {"answer": "5"}, "the last push serves")
    assert load.wrong == []
    assert load.asked > 20
    subjects = clone.git("--git-dir", str(platform.repo("app")), "log", "--format=%s", "main").out.split("\n")
    assert subjects[:5] == [f"Number {number}" for number in range(5, 0, -1)]


@ON_ONE_BACKEND
def test_killing_gateways_under_load_costs_only_the_connections_they_held(
    fresh_platform: Callable[..., Platform],
) -> None:
    platform = fresh_platform(UHLP_GATEWAYS="2")
    platform.start()
    clone = platform.create("app", app_files("app", answering("0")))
    with Load(platform, "app", {"0", "1", "2", "3", "4"}, retries_lost_connections=True) as load:
        for number in range(1, 5):
            platform.kill(f"gateway-{number % 2}")
            clone.deploy({HANDLER: answering(str(number))})
            assert platform.answer("app") == {"answer": str(number)}
    assert load.wrong == []
    assert load.asked > 20


@ON_ONE_BACKEND
def test_a_killed_gateway_keeps_the_waiting_connections(fresh_platform: Callable[..., Platform]) -> None:
    platform = fresh_platform()
    platform.start()
    platform.create("app", app_files("app", answering("0")))
    for _ in range(5):
        platform.kill("gateway")
        assert platform.answer("app") == {"answer": "0"}


def test_a_killed_instance_is_replaced(fresh_platform: Callable[..., Platform]) -> None:
    platform = fresh_platform()
    platform.start()
    platform.create("app", app_files("app", answering("0")))
    pid = _instance(platform)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _instance(platform).get("pid") not in (None, pid), "another instance runs")
    wait_until(lambda: platform.request("GET", "/", app="app").status == 200, "it answers")


def test_sandboxes_outlive_their_daemon(fresh_platform: Callable[..., Platform]) -> None:
    platform = fresh_platform()
    platform.start()
    platform.create("app", app_files("app", answering("0")))
    before = _instance(platform)["instance"]
    platform.kill("sandboxes")
    assert platform.answer("app") == {"answer": "0"}
    wait_until(lambda: "sandboxes" in platform.state["daemons"], "the daemon is back")
    assert _instance(platform)["instance"] == before


def test_everything_is_found_again_after_a_stop(fresh_platform: Callable[..., Platform]) -> None:
    platform = fresh_platform()
    platform.start()
    clone = platform.create("app", app_files("app", answering("kept")))
    assert platform.stop() == 0
    assert list((platform.home / "run" / "s").iterdir()) == []
    # A push by path while everything is down is validated by the hook itself, and deployed at the start.
    clone.commit({HANDLER: "def"})
    assert clone.push().code == 1
    clone.commit({HANDLER: answering("pushed while down")})
    pushed = clone.push()
    assert pushed.code == 0, pushed.err
    assert "it goes live when that runs again" in pushed.err
    platform.start()
    wait_until(lambda: platform.request("GET", "/", app="app").status == 200, "the app serves")
    wait_until(lambda: platform.answer("app") == {"answer": "pushed while down"}, "the newest commit serves")


@ON_ONE_BACKEND
def test_losing_redis_data_loses_nothing_that_git_holds(fresh_platform: Callable[..., Platform]) -> None:
    platform = fresh_platform()
    platform.start()
    clone = platform.create("app", app_files("app", answering("good")))
    clone.commit({HANDLER: "import no_such_module\n" + answering("bad")})
    assert "✘ not live" in clone.push().err
    platform.stop()
    shutil.rmtree(platform.home / "redis")
    platform.start()
    # The head cannot be served; the last good revision is known from Git alone.
    wait_until(lambda: platform.request("GET", "/", app="app").status == 200, "the last good revision serves")
    assert platform.answer("app") == {"answer": "good"}


@ON_ONE_BACKEND
def test_a_repo_that_is_out_of_order_holds_up_no_other(fresh_platform: Callable[..., Platform]) -> None:
    platform = fresh_platform()
    platform.start()
    for app in ("one", "two"):
        platform.create(app, app_files(app, answering(app)))
    (platform.home / "repos" / "junk.git").mkdir()
    (platform.repo("two") / "refs" / "heads" / "main").write_text("no commit\n")
    wait_until(lambda: "holds no commit id" in platform.log(), "the broken ref is named")
    assert platform.answer("two") == {"answer": "two"}
    platform.stop()
    platform.start()
    wait_until(lambda: platform.request("GET", "/", app="one").status == 200, "the sound app serves")
    assert platform.create("three", app_files("three", answering("three")))


def test_a_killed_supervisor_leaves_nothing_that_hinders_the_next(
    fresh_platform: Callable[..., Platform],
) -> None:
    platform = fresh_platform()
    platform.start()
    platform.create("app", app_files("app", answering("kept")))
    assert platform.process is not None
    platform.process.kill()
    platform.process.wait()
    platform.start()
    wait_until(lambda: platform.request("GET", "/", app="app").status == 200, "the app serves")
    assert platform.answer("app") == {"answer": "kept"}


def test_rapid_pushes_end_with_the_newest_commit(platform: Platform) -> None:
    clone = platform.create("rapid", app_files("rapid", answering("0")))
    for number in range(1, 9):
        # Every second one hangs while it is imported: the next commit must not wait for it.
        hanging = "import time\ntime.sleep(60)\n" if number % 2 else ""
        clone.commit({HANDLER: hanging + answering(str(number))})
        assert clone.push("--push-option=no-wait", "origin", "HEAD:main").code == 0
    wait_until(lambda: platform.answer("rapid") == {"answer": "8"}, "the newest commit serves")


def _push_until_stored(clone: Clone) -> str:
    """Push as a person would: again if a daemon died in the middle of it; returns what the remote has."""

    def stored() -> str:
        clone.push()
        found = clone.git("ls-remote", "origin", "refs/heads/main").out.split()
        return found[0] if found and found[0] == clone.head() else ""

    found: str = wait_until(stored, "the push is stored")
    return found


def _instance(platform: Platform) -> dict[str, object]:
    deployments = platform.uhlp("status", "app", "--json").json["deployments"]
    ready = [
        instance
        for pool in deployments[0]["pools"]
        for instance in pool["instances"]
        if instance["state"] == "ready"
    ]
    return ready[0] if ready else {}
