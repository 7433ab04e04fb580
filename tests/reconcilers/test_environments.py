"""Who gets which environment when: shared, refused once to each, tried again, stopped when unwanted.

The installer is the test's own and ends when the test says so; everything else is real.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from support.waiting import eventually
from uhlp_core.home import Home
from uhlp_core.settings import Settings
from uhlp_reconcilers.environments import environments as module
from uhlp_reconcilers.environments.environments import Environments, Survey
from uhlp_reconcilers.environments.installer import Order, Running, Work
from uhlp_state.dependencies import read_dependencies
from uhlp_state.documents import RegistryDoc, Revision
from uhlp_state.export import remove_tree
from uhlp_state.model import AppDefinition
from uhlp_state.model.pools import Isolation, Language
from uhlp_state.snapshot import AppSnapshot

DEFINITION = AppDefinition.model_validate(
    {"appId": "shop", "displayName": "Shop", "sandboxPools": {"pools": [{"poolName": "main"}]}}
)


class Installation:
    """One that ends when it is told to."""

    def __init__(self, work: Work) -> None:
        self.log = work.log
        self.code: int | None = None
        self.was_ended = False

    def finish(self, code: int, said: str = "") -> None:
        self.log.write_text(said)
        self.code = code

    def exit_code(self) -> int | None:
        return self.code

    def end(self) -> None:
        self.was_ended = True


class Installer:
    """Remembers what was begun."""

    uid = os.geteuid()

    def __init__(self) -> None:
        self.begun: list[Installation] = []

    def target(self, language: Language, image: str) -> str:
        return "target"

    def begin(self, order: Order, work: Work) -> Running:
        for path in (work.box, *work.box.iterdir()):
            os.chown(path, self.uid, self.uid)
        self.begun.append(Installation(work))
        return self.begun[-1]

    async def number(self, count: int) -> Installation:
        await eventually(lambda: len(self.begun) == count, f"installation {count} has begun")
        return self.begun[-1]


@pytest.fixture
def installer() -> Installer:
    return Installer()


@pytest.fixture
def home() -> Home:
    home = Home(Path(tempfile.mkdtemp(prefix="ue-", dir="/tmp")))
    home.create()
    return home


@pytest.fixture
async def environments(
    home: Home, installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Environments]:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)

    async def resolved(isolation: Isolation) -> Isolation:
        return Isolation.PROCESS

    made = Environments(Settings(home_dir=home.root), {Isolation.PROCESS: installer}, resolved)
    yield made
    await made.close()
    for left in home.environments.glob("*/*"):
        remove_tree(left)
    shutil.rmtree(home.root)


def _wanted(home: Home, deployment: str, *revisions: tuple[str, str]) -> RegistryDoc:
    """A deployment whose revisions, newest first, have these commits and requirements."""
    return RegistryDoc(
        deployment=deployment,
        app="shop",
        branch="main",
        head=revisions[0][0],
        suspended=False,
        on_demand=False,
        revisions=tuple(_revision(home, commit, requirements) for commit, requirements in revisions),
    )


def _revision(home: Home, commit: str, requirements: str) -> Revision:
    state = home.trees / "shop" / commit / "state"
    state.mkdir(parents=True, exist_ok=True)
    (state / "requirements.txt").write_text(requirements)
    digests = {wanted.language: wanted.digest for wanted in read_dependencies(_reader(state.parent))}
    return Revision(commit, commit, AppSnapshot("shop", commit, commit, DEFINITION, (), environments=digests))


def _reader(tree: Path) -> Callable[[str], bytes | None]:
    return lambda path: (tree / path).read_bytes() if (tree / path).exists() else None


def _is_ready(found: Survey, wanted: RegistryDoc) -> bool:
    return wanted.revisions[0].snapshot.pool_spec("main") in found.packages


async def test_two_that_want_the_same_share_one_installation(
    home: Home, environments: Environments, installer: Installer
) -> None:
    told: list[str] = []
    environments.enqueue = told.append
    first, second = (_wanted(home, name, (f"{name}-1", "a==1\n")) for name in ("one", "two"))
    assert (await environments.survey(first, (), ())).pending == {"one-1": "waiting for its turn"}
    assert (await environments.survey(second, (), ())).pending == {"two-1": "waiting for its turn"}
    (await installer.number(1)).finish(0, "Collecting a\n")
    await eventually(lambda: {"one", "two"} <= set(told), "both are told")

    async def ready() -> bool:
        return all([_is_ready(await environments.survey(one, (), ()), one) for one in (first, second)])

    await eventually(ready, "it is there for both")
    assert len(installer.begun) == 1


async def test_a_refusal_is_said_once_to_each_who_asked_and_another_commit_tries_again(
    home: Home, environments: Environments, installer: Installer
) -> None:
    first, second = (_wanted(home, name, (f"{name}-1", "a==1\n")) for name in ("one", "two"))
    await environments.survey(first, (), ())
    await environments.survey(second, (), ())
    (await installer.number(1)).finish(1, "ERROR: no such thing\n")

    async def refused() -> dict[str, str]:
        return (await environments.survey(first, (), ())).refused

    assert await eventually(refused, "it is refused") == {"one-1": "ERROR: no such thing"}
    assert (await environments.survey(second, (), ())).refused == {"two-1": "ERROR: no such thing"}
    again = _wanted(home, "one", ("one-2", "a==1\n"))
    assert (await environments.survey(again, {"one-1"}, ())).pending == {"one-2": "waiting for its turn"}
    await installer.number(2)


async def test_what_serves_is_not_refused_but_tried_again(
    home: Home, environments: Environments, installer: Installer
) -> None:
    wanted = _wanted(home, "one", ("one-1", "a==1\n"))
    serving = {wanted.revisions[0].snapshot.pool_spec("main")}
    await environments.survey(wanted, (), serving)
    (await installer.number(1)).finish(1, "ERROR: not any more\n")

    async def begun_again() -> bool:
        found = await environments.survey(wanted, (), serving)
        assert not found.refused
        return len(installer.begun) == 2

    await eventually(begun_again, "it is tried again")


async def test_what_failed_outside_is_tried_again_by_itself(
    home: Home, environments: Environments, installer: Installer
) -> None:
    wanted = _wanted(home, "one", ("one-1", "a==1\n"))
    await environments.survey(wanted, (), ())
    (await installer.number(1)).finish(1, "npm error code ECONNREFUSED\n")

    async def begun_again() -> bool:
        found = await environments.survey(wanted, (), ())
        assert not found.refused
        return len(installer.begun) == 2

    await eventually(begun_again, "it is tried again")


async def test_a_newer_commit_stops_what_it_does_not_want_and_the_old_one_stays_ready(
    home: Home, environments: Environments, installer: Installer
) -> None:
    good = _wanted(home, "one", ("good", "a==1\n"))
    await environments.survey(good, (), ())
    (await installer.number(1)).finish(0)

    async def ready() -> bool:
        return _is_ready(await environments.survey(good, (), ()), good)

    await eventually(ready, "the first is there")
    await environments.survey(_wanted(home, "one", ("slow", "a==2\n"), ("good", "a==1\n")), (), ())
    slow = await installer.number(2)
    found = await environments.survey(_wanted(home, "one", ("plain", ""), ("good", "a==1\n")), (), ())
    await eventually(lambda: slow.was_ended, "what nobody wants is stopped")
    assert (found.pending, len(found.packages)) == ({}, 2)


async def test_an_installation_ends_with_the_deployment_that_wanted_it(
    home: Home, environments: Environments, installer: Installer
) -> None:
    await environments.survey(_wanted(home, "one", ("one-1", "a==1\n")), (), ())
    under_way = await installer.number(1)
    environments.forget("one")
    await eventually(lambda: under_way.was_ended, "it is stopped")
    assert list(home.environments.glob("*/target")) == []
