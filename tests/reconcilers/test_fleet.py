"""Who serves, who stands by and who goes: the bookkeeping of one deployment's instances."""

from pathlib import Path
from typing import Literal

import pytest

from uhlp_reconcilers.backends.protocol import Instance
from uhlp_reconcilers.fleet import Fleet, Want
from uhlp_reconcilers.instances import Held
from uhlp_reconcilers.scaling import Scale
from uhlp_state.documents import Revision, RoutesDoc
from uhlp_state.model import AppDefinition, PoolDefinition
from uhlp_state.snapshot import AppSnapshot

State = Literal["starting", "ready", "draining"]


def held(name: str, spec: str, *, pool: str = "main", state: State = "ready", standby: bool = False) -> Held:
    """An instance; names say its age: `a` is the oldest."""
    started_at = float(ord(name[0]))
    instance = Instance("process", name, "app", "app", pool, spec, 1, 1, started_at, Path(f"/run/{name}"))
    return Held(instance, state=state, standby=standby)


def fleet(*members: Held, **counts: int) -> Fleet:
    scales = {pool: Scale(count) for pool, count in counts.items()}
    return Fleet(held={one.instance.instance: one for one in members}, scales=scales)


def names(found: list[Held]) -> list[str]:
    return [one.instance.instance for one in found]


def pool(name: str = "main", **fields: object) -> PoolDefinition:
    return PoolDefinition.model_validate({"poolName": name, **fields})


def want(count: int, standby: int = 0, spec: str = "s", name: str = "main") -> Want:
    return Want(name, pool(name), spec, count, standby)


def revision(commit: str, *pools: PoolDefinition) -> Revision:
    definition = AppDefinition.model_validate(
        {"appId": "app", "sandboxPools": {"pools": [one.model_dump(by_alias=True) for one in pools]}}
    )
    return Revision(commit, commit, AppSnapshot("app", commit, commit, definition, ()))


def served(of: Revision) -> RoutesDoc:
    return RoutesDoc("app", "app", 1, False, False, of.snapshot, {})


OLD = pool(minInstances=2, maxInstances=4)
NEW = pool(minInstances=1, maxInstances=4, timeoutSeconds=9)


def test_those_that_stand_by_take_the_places_that_are_free_once_they_are_up() -> None:
    ours = fleet(
        held("a", "s"),
        held("b", "s", standby=True, state="starting"),
        held("c", "s", standby=True),
        held("d", "s", standby=True),
    )
    ours.assign([want(2, standby=1)])
    assert names(ours.serving("main", "s")) == ["a", "c"]
    assert names(ours.standing_by("main", "s")) == ["b", "d"]


def test_an_instance_too_many_stands_by_before_another_would_be_started_for_it() -> None:
    ours = fleet(held("a", "s"), held("b", "s"), held("c", "s"))
    ours.assign([want(1, standby=1)])
    assert names(ours.serving("main", "s")) == ["a", "c"]
    assert names(ours.standing_by("main", "s")) == ["b"]
    assert names(ours.surplus([want(1, standby=1)])) == ["c"]


def test_of_each_pool_one_goes_at_a_time_and_the_youngest_first() -> None:
    ours = fleet(held("a", "s"), held("b", "s"), held("c", "s"), held("d", "old"))
    wants = [want(1)]
    assert names(ours.surplus(wants)) == ["d"]
    ours.held["d"].state = "draining"
    assert ours.surplus(wants) == []
    del ours.held["d"]
    assert names(ours.surplus(wants)) == ["c"]


def test_one_look_takes_at_most_half_of_all_instances_out_of_use() -> None:
    members = [held("a", "old", pool=f"p{number}") for number in range(5)]
    for number, member in enumerate(members):
        member.instance.instance = f"i{number}"
    ours = fleet(*members)
    assert len(ours.surplus([want(0, name=f"p{number}") for number in range(5)])) == 2
    # Without a revision that can be served nothing says that the pools are gone.
    assert len(ours.surplus([])) == 2


def test_a_pool_that_a_commit_has_removed_goes_at_once() -> None:
    ours = fleet(held("a", "s"), held("b", "s", pool="gone"), held("c", "s", pool="gone"))
    assert names(ours.surplus([want(1)])) == ["b", "c"]


def test_a_changed_pool_gets_as_many_as_serve_one_after_the_other() -> None:
    ours = fleet(held("a", OLD.spec_hash()), held("b", OLD.spec_hash()), held("c", OLD.spec_hash()), main=1)
    ours.scales["main"] = Scale(3)
    older, newer = revision("old", OLD), revision("new", NEW)
    new, old = ours.wants([newer, older], served(older), preview=False)
    assert (new.spec, new.count, new.at_once, new.standby) == (NEW.spec_hash(), 3, False, 0)
    assert (old.spec, old.count, old.standby) == (OLD.spec_hash(), 3, 0)
    # Though the load has fallen: the old revision still promises two.
    ours.scales["main"] = Scale(1)
    new, old = ours.wants([newer, older], served(older), preview=False)
    assert (new.count, old.count) == (2, 2)
    (after,) = ours.wants([newer], served(newer), preview=False)
    assert (after.count, after.at_once, after.standby) == (1, True, 1)


def test_nothing_is_replaced_by_a_change_of_code_or_before_anything_serves() -> None:
    ours = fleet(held("a", OLD.spec_hash()), held("b", OLD.spec_hash()), main=2)
    (same,) = ours.wants([revision("new", OLD), revision("old", OLD)], None, preview=False)
    assert (same.count, same.at_once, same.standby) == (2, True, 1)
    older = revision("old", OLD)
    new, _ = fleet(main=0).wants([revision("new", NEW), older], served(older), preview=False)
    assert (new.count, new.at_once) == (1, True)


@pytest.mark.parametrize("lost", [False, True])
def test_a_new_daemon_finds_them_in_their_parts(lost: bool) -> None:
    spec = OLD.spec_hash()
    before = fleet(
        held("a", spec), held("b", spec), held("c", spec, standby=True), held("d", spec, state="draining")
    )
    after = fleet(*(held(name, spec, state="starting") for name in before.held))
    after.recall({} if lost else {name: one.doc() for name, one in before.held.items()})
    after.rescale([revision("now", OLD)], None)
    if lost:
        # Without a word about their parts none is taken to be too many at once.
        assert after.scales["main"].count == 4
    else:
        assert names(after.serving("main", spec)) == ["a", "b"]
        assert names(after.standing_by("main", spec)) == ["c"]
        assert after.held["d"].state == "draining"
        assert after.scales["main"].count == 2
