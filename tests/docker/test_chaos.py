"""Blows at random while clients ask all the time: an answer may come late or be 503, never wrong.

Containers, the sandboxes daemon and the Docker engine itself are struck, in an engine of the tests' own.
UHLP_TEST_CHAOS_SECONDS says how long. A run prints its seed, and UHLP_TEST_CHAOS_SEED repeats its blows.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count

import docker as sdk
import pytest
from docker.errors import APIError
from docker.utils import kwargs_from_env

from e2e.load import Load
from e2e.platform_under_test import Platform, app_files
from e2e.watched import Watched
from support.own_engine import ENGINE_ENDS, OwnEngine
from support.waiting import wait_until

SECONDS = float(os.environ.get("UHLP_TEST_CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("UHLP_TEST_CHAOS_SEED", "20261121"))
"""Which blows fall, and when. Another number is another test."""

WHOLE_WITHIN = 60.0
"""Seconds after the last blow in which all pools have all their instances again: on a machine with nothing
else to do it takes less than 10, but other tests run beside this one."""

QUIET_SECONDS = (0.0, 3.0)
"""Between two blows: from none, so that a blow meets the recovery from the last one, to enough to recover."""

CLIENTS = 4
INSTANCES = 2
"""Of each pool, of which there is one in each of the warm modes."""

HANDLER = """
def handle(input, context):
    number = int(input["httpDetails"]["queryParameters"]["number"])
    return {"number": number, "square": number * number}
"""
SERVER_POOL = (
    f"      minInstances: {INSTANCES}\n"
    f"    - poolName: server\n      executionMode: server\n      minInstances: {INSTANCES}\n"
)
SERVER_ROUTE = (
    "  - componentId: server\n    handlerType: JIT\n    targetPoolName: server\n"
    "    taskDetails: {script: _jit_code/root/v1/handler.py, function: handle}\n"
    "    routeMatcher: {pathPattern: /server, methods: [GET]}\n"
)
PATHS = ("/", "/server")


@dataclass
class Squares(Load):
    """Asks each pool in turn for squares of ever new numbers."""

    refused: int = 0
    numbers: Iterator[int] = field(default_factory=count)

    def ask(self) -> None:
        number = next(self.numbers)
        path = f"{PATHS[number % len(PATHS)]}?number={number}"
        answer = self.platform.request("GET", path, app=self.app)
        if answer.status == 503 and int(answer.headers["Retry-After"]) > 0:
            self.refused += 1
        elif (answer.status, answer.json) != (200, {"number": number, "square": number * number}):
            self.wrong.append(f"{path}: {answer.status} {answer.body!r}")


class Blows:
    """What is struck next, and how, as the seed has it."""

    def __init__(self, platform: Platform, engine: OwnEngine, seed: int) -> None:
        self._engine = engine
        self._random = random.Random(seed)
        self.struck: list[str] = []
        # A container is struck more often than what all containers need.
        self._ways: dict[str, tuple[int, Callable[[], None]]] = {
            "kill a container": (3, lambda: self._container(sdk.APIClient.kill)),
            "remove a container": (3, lambda: self._container(sdk.APIClient.remove_container, force=True)),
            "pause a container": (3, lambda: self._container(sdk.APIClient.pause)),
            "kill the sandboxes daemon": (2, lambda: platform.kill("sandboxes")),
            "kill the engine": (1, self._restart),
        }

    def strike(self) -> None:
        """One blow; returns when what was killed, and is not a container, is started again."""
        weights = [weight for weight, _ in self._ways.values()]
        [way] = self._random.choices(list(self._ways), weights)
        self.struck.append(way)
        self._ways[way][1]()

    def rest(self) -> None:
        time.sleep(self._random.uniform(*QUIET_SECONDS))

    def _container(self, act: Callable[..., None], **options: bool) -> None:
        with self.docker() as client:
            running = sorted(client.containers(), key=lambda found: found["Names"])
            if running:
                try:
                    act(client, self._random.choice(running)["Id"], **options)
                except APIError:
                    self.struck[-1] += ", which was ending already"

    def _restart(self) -> None:
        self._engine.end(signal.SIGKILL)
        self._engine.start()

    @contextmanager
    def docker(self) -> Iterator[sdk.APIClient]:
        # A new one each time: connections do not outlive their engine.
        with closing(sdk.APIClient(**kwargs_from_env(), version="auto")) as client:
            yield client


@ENGINE_ENDS
@pytest.mark.timeout(SECONDS + 150)
def test_no_blow_makes_an_answer_wrong(own_engine: OwnEngine) -> None:
    print(f"UHLP_TEST_CHAOS_SEED={SEED}")
    platform = Platform(settings={"UHLP_ISOLATION": "docker"})
    blows = Blows(platform, own_engine, SEED)
    try:
        platform.start()
        platform.create("squares", app_files("squares", HANDLER, pool=SERVER_POOL, routes=SERVER_ROUTE))
        with (
            closing(Watched(platform, "squares")) as watched,
            Squares(platform, "squares", set(), clients=CLIENTS) as load,
        ):
            end = time.monotonic() + SECONDS
            while time.monotonic() < end and not load.wrong:
                blows.rest()
                blows.strike()
            told = f"after {len(blows.struck)} blows, the last: {', '.join(blows.struck[-5:])}"
            wait_until(lambda: is_whole(watched, blows), f"all is whole {told}", WHOLE_WITHIN)
            asked, refused = load.asked, load.refused
            wait_until(lambda: load.asked > asked + 100, "it is asked once more")
    finally:
        platform.close()
    assert load.wrong == [], told
    assert load.refused == refused, "a pool that is whole refuses nothing"


def is_whole(watched: Watched, blows: Blows) -> bool:
    """Every instance serves in a container that runs, and there is no other container."""
    documents = watched.documents()
    with blows.docker() as client:
        listed = client.containers(all=True)
    containers = {name: found["Status"] for found in listed for name in found["Names"]}
    return (
        [found["state"] for found in documents] == ["ready"] * INSTANCES * len(PATHS)
        and all(found["prepared"] for found in documents)
        and {f"/{found['container']}" for found in documents} == containers.keys()
        and all(status.startswith("Up") and "Paused" not in status for status in containers.values())
        and watched.routed() == {found["instance"] for found in documents}
    )
