"""Pools that follow their load, sleep, keep instances standing by and are replaced, while requests come.

No request may fail in any of it, whatever daemon is killed meanwhile.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from e2e.load import Load
from e2e.platform_under_test import Platform, app_files
from e2e.watched import Watched
from support.waiting import wait_until

DEFINITION = "state/app_definition.yaml"
SLOW = "import time\n\n\ndef handle(input, context):\n    time.sleep(0.05)\n    return {'answer': 'here'}\n"
"""Keeps a worker busy without a processor."""

ELASTIC = (
    "      concurrency: 2\n      minInstances: 1\n      maxInstances: 3\n      scaleDownAfterSeconds: 1\n"
)
SLEEPER = "      concurrency: 2\n      minInstances: 0\n      scaleDownAfterSeconds: 1\n"


@pytest.fixture(scope="module")
def fast(isolation: str) -> Iterator[Platform]:
    """A platform whose previews sleep soon."""
    running = Platform(settings={"UHLP_ISOLATION": isolation, "UHLP_PREVIEW_IDLE_SECONDS": "1"})
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture
def watch(fast: Platform) -> Iterator[Callable[[str], Watched]]:
    made: list[Watched] = []

    def make(app: str) -> Watched:
        made.append(Watched(fast, app))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "killed"])
def test_a_pool_grows_under_load_and_shrinks_after_it(
    fast: Platform, watch: Callable[[str], Watched], killed: bool
) -> None:
    app = f"grows-{killed}".lower()
    fast.create(app, app_files(app, SLOW, mode="server", pool=ELASTIC))
    watched = watch(app)
    watched.becomes(ready=1, standby=1)
    with Load(fast, app, {"here"}, clients=8) as heavy:
        if killed:
            wait_until(lambda: heavy.asked > 10, "there is load")
            watched.kill_daemon().join()
        most = watched.becomes(ready=3)
    with Load(fast, app, {"here"}, pause=0.01) as light:
        if killed:
            watched.kill_daemon().join()
        (last,) = watched.becomes(ready=1, standby=1)
    assert last in most
    assert (heavy.wrong, light.wrong) == ([], [])


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "killed"])
def test_a_pool_sleeps_and_its_next_request_is_held_until_it_is_up(
    fast: Platform, watch: Callable[[str], Watched], killed: bool
) -> None:
    app = f"sleeps-{killed}".lower()
    fast.create(app, app_files(app, SLOW, mode="server", pool=SLEEPER))
    watched = watch(app)
    watched.becomes(ready=0)
    with Load(fast, app, {"here"}) as waking:
        killer = watched.kill_daemon() if killed else None
        watched.becomes(ready=1)
        if killer:
            killer.join()
    watched.becomes(ready=0)
    assert waking.wrong == []


def test_a_request_that_comes_as_the_pool_falls_asleep_is_answered(
    fast: Platform, watch: Callable[[str], Watched]
) -> None:
    fast.create("dozes", app_files("dozes", SLOW, mode="server", pool=SLEEPER))
    watched = watch("dozes")
    for _ in range(3):
        assert fast.answer("dozes") == {"answer": "here"}
        wait_until(lambda: not watched.named("ready"), "it falls asleep")
    assert fast.answer("dozes") == {"answer": "here"}


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "killed"])
def test_a_changed_pool_is_replaced_one_by_one_without_a_failed_request(
    fast: Platform, watch: Callable[[str], Watched], killed: bool
) -> None:
    app = f"replaced-{killed}".lower()
    pool = "      concurrency: 2\n      minInstances: 2\n"
    clone = fast.create(app, app_files(app, SLOW, mode="server", pool=pool))
    watched = watch(app)
    before = watched.becomes(ready=2)
    seen: list[list[dict[str, Any]]] = []
    stop = threading.Event()

    def look() -> None:
        own = Watched(fast, app)
        while not stop.wait(0.005):
            seen.append(own.documents())
        own.close()

    looking = threading.Thread(target=look)
    with Load(fast, app, {"here"}, clients=3) as load:
        looking.start()
        wait_until(lambda: load.asked > 10, "there is load")
        changed = app_files(app, SLOW, mode="server", pool=pool + "      timeoutSeconds: 7\n")
        clone.commit(changed)
        assert clone.push("--push-option=no-wait", "origin", "HEAD:main").code == 0
        if killed:
            wait_until(lambda: len(watched.documents()) > 2, "the replacement has begun")
            watched.kill_daemon().join()
        wait_until(
            lambda: (
                len(watched.documents()) == 2 and watched.routed() == watched.named("ready") - before != set()
            ),
            "all are new",
        )
    stop.set()
    looking.join()
    assert watched.named("ready") & before == set()
    assert load.wrong == []
    found = [{one["instance"]: one["state"] for one in moment} for moment in seen if moment]
    assert min(sum(state == "ready" for state in moment.values()) for moment in found) >= 2
    assert max(len(moment) for moment in found) <= 4
    new = [moment.keys() - before for moment in found]
    assert all(len(after - earlier) <= 1 for earlier, after in pairwise(new))


def test_one_that_stands_by_replaces_one_that_died(fast: Platform, watch: Callable[[str], Watched]) -> None:
    pool = "      standbyInstances: 1\n"
    clone = fast.create("spared", app_files("spared", SLOW, mode="server", pool=pool))
    watched = watch("spared")
    watched.becomes(ready=1, standby=1)
    (spare,) = watched.named("standby")
    assert watched.routed() == watched.named("ready")
    fast.kill("sandboxes")
    (dying,) = (one for one in watched.documents() if one["state"] == "ready")
    os.kill(dying["pid"], signal.SIGKILL)
    wait_until(lambda: watched.routed() == {spare}, "the one that stood by serves")
    assert fast.answer("spared") == {"answer": "here"}
    assert watched.becomes(ready=1, standby=1) == {spare}
    # One that dies while it stands by is replaced as well, and serves nobody.
    (other,) = (one for one in watched.documents() if one["state"] == "standby")
    os.kill(other["pid"], signal.SIGKILL)
    wait_until(lambda: watched.named("standby") - {other["instance"]}, "another stands by")
    assert watched.becomes(ready=1, standby=1) == {spare}
    # A new revision is loaded into it, and a changed pool has another.
    clone.deploy({"state/_jit_code/root/v1/handler.py": SLOW.replace("here", "there")})
    head = clone.git("rev-parse", "HEAD^{tree}").out.strip()
    wait_until(
        lambda: all(head in one["prepared"] for one in watched.documents()), "both have the new revision"
    )
    known = {one["instance"] for one in watched.documents()}
    clone.deploy(app_files("spared", SLOW, mode="server", pool=pool + "      timeoutSeconds: 7\n"))
    wait_until(lambda: not known & {one["instance"] for one in watched.documents()}, "all are new")
    watched.becomes(ready=1, standby=1)


def test_the_old_instances_are_healed_though_the_new_ones_cannot_be_started(
    fast: Platform, watch: Callable[[str], Watched]
) -> None:
    clone = fast.create("healed", app_files("healed", SLOW, mode="server"))
    watched = watch("healed")
    before = watched.becomes(ready=1)
    missing = "      isolation: docker\n      dockerImage: nothing/here\n"
    clone.commit(app_files("healed", SLOW, mode="server", pool=missing))
    assert clone.push("--push-option=no-wait", "origin", "HEAD:main").code == 0
    wait_until(lambda: "SandboxBackendFailed" in fast.uhlp("status", "healed").out, "it is said why")
    (dying,) = watched.documents()
    os.kill(dying["pid"], signal.SIGKILL)
    wait_until(lambda: watched.routed() and not watched.routed() & before, "another serves")
    assert fast.answer("healed") == {"answer": "here"}
