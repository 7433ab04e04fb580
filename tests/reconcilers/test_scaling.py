"""The number of instances that a pool should have: properties of the decision, over any course of load."""

from hypothesis import given
from hypothesis import strategies as st

from uhlp_reconcilers.scaling import (
    FULL,
    Bounds,
    Load,
    Scale,
    decide,
    load_of,
    newest_loads,
    next_look,
    standby_of,
    to_switch,
)
from uhlp_state.documents import LOAD_SECONDS, LoadDoc, PoolLoad
from uhlp_state.model import PoolDefinition

COOL_OFF = 60.0
BOUNDS = Bounds(least=1, most=8, capacity=10, cool_off=COOL_OFF, last_cool_off=COOL_OFF)
IDLE = Load()


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    least = draw(st.integers(0, 5))
    return Bounds(
        least=least,
        most=draw(st.integers(max(1, least), 12)),
        capacity=draw(st.integers(1, 16)),
        cool_off=draw(st.floats(1, 100)),
        last_cool_off=draw(st.floats(1, 100)),
    )


loads = st.builds(
    lambda need, rejected, used: Load(used or need > 0 or rejected > 0, need, rejected),
    st.floats(0, 300),
    st.integers(0, 20),
    st.booleans(),
)
courses = st.lists(st.tuples(loads, st.floats(0, 50)), max_size=40)


@given(bounds(), st.integers(0, 20), courses)
def test_a_pool_stays_within_its_bounds_and_never_loses_two_at_once_or_early(
    bounds: Bounds, count: int, course: list[tuple[Load, float]]
) -> None:
    scale, now, changed = decide(Scale(count), IDLE, bounds, 0.0), 0.0, 0.0
    for load, seconds in course:
        now += seconds
        before, scale = scale, decide(scale, load, bounds, now)
        assert bounds.least <= scale.count <= bounds.most
        if scale.count < before.count:
            assert scale.count == before.count - 1
            assert now - changed >= min(bounds.cool_off, bounds.last_cool_off)
        if scale.count != before.count:
            changed = now


@given(bounds(), st.integers(0, 20), loads)
def test_a_steady_load_is_served_at_once_and_never_makes_a_pool_flap(
    bounds: Bounds, count: int, load: Load
) -> None:
    need = load.need + min(load.rejected, bounds.capacity)
    scale, counts = Scale(count), []
    for step in range(60):
        scale = decide(scale, load, bounds, step * 51.0)
        counts.append(scale.count)
        assert scale.count == bounds.most or need <= FULL * scale.count * bounds.capacity
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == counts[-2]


@given(bounds(), st.integers(1, 12), loads)
def test_whoever_is_used_is_not_put_to_sleep(bounds: Bounds, count: int, load: Load) -> None:
    scale = Scale(count)
    for step in range(40):
        scale = decide(scale, Load(True, load.need, load.rejected), bounds, step * 101.0)
    assert scale.count >= 1


@given(bounds(), st.integers(0, 12), courses)
def test_the_next_look_comes_when_the_scale_may_change(
    bounds: Bounds, count: int, course: list[tuple[Load, float]]
) -> None:
    scale, now = Scale(count), 0.0
    for load, seconds in course:
        now += seconds
        scale = decide(scale, load, bounds, now)
        look = next_look(scale, bounds, now)
        assert (look is None) == (scale.count == bounds.least)
        if look is not None and scale.quiet_since is not None:
            just_before = decide(scale, IDLE, bounds, now + look * 0.99 - 0.001)
            assert look < 0.002 or just_before.count == scale.count
            assert decide(scale, IDLE, bounds, now + look + 0.001).count == scale.count - 1


def test_as_many_come_at_once_as_the_load_needs() -> None:
    assert decide(Scale(1), Load(True, 35.0), BOUNDS, 0) == Scale(5)
    assert decide(Scale(1), Load(True, 8.5), BOUNDS, 0) == Scale(1)
    assert decide(Scale(1), Load(True, 8.6), BOUNDS, 0) == Scale(2)
    assert decide(Scale(1), Load(True, 900.0), BOUNDS, 0) == Scale(8)
    asleep = Bounds(0, 4, 10, COOL_OFF, COOL_OFF)
    assert decide(Scale(0), Load(True, 1.0), asleep, 0) == Scale(1)
    assert decide(Scale(0), Load(True, 0.0, rejected=1), asleep, 0) == Scale(1)


def test_one_goes_after_each_pause_and_a_moment_of_need_begins_it_anew() -> None:
    scale = decide(Scale(3), Load(True, 5.0), BOUNDS, 100.0)
    assert scale == Scale(3, 100.0)
    scale = decide(scale, Load(True, 12.0), BOUNDS, 140.0)
    assert scale == Scale(3)
    scale = decide(scale, Load(True, 5.0), BOUNDS, 150.0)
    assert decide(scale, IDLE, BOUNDS, 209.9) == Scale(3, 150.0)
    scale = decide(scale, IDLE, BOUNDS, 210.0)
    assert scale == Scale(2, 210.0)
    scale = decide(scale, IDLE, BOUNDS, 1000.0)
    assert scale == Scale(1, 1000.0)
    assert decide(scale, IDLE, BOUNDS, 9000.0) == Scale(1)


def pool_load(**numbers: float) -> PoolLoad:
    zero = PoolLoad(False, 0.0, 0, 0, 0.0, 0.0, 0)
    return PoolLoad.from_json({**zero.to_json(), **numbers})


def test_gateways_add_up() -> None:
    documents = [
        LoadDoc(0, {"main": pool_load(used=True, active=2.5, waiting=3)}),
        LoadDoc(0, {"main": pool_load(used=False, rejected=2), "other": pool_load(active=9)}),
        LoadDoc(0, {}),
    ]
    assert load_of("main", documents) == Load(True, 5.5, 2)
    assert load_of("third", documents) == IDLE


def test_a_gateway_s_last_word_counts_for_a_while_even_if_redis_lost_it() -> None:
    busy, quiet = (LoadDoc(at, {"main": pool_load(active=active)}) for at, active in ((100.0, 9), (104.0, 0)))
    known = newest_loads({}, {"a": busy, "b": busy}, 101.0)
    assert known == {"a": busy, "b": busy}
    known = newest_loads(known, {"a": quiet}, 105.0)
    assert known == {"a": quiet, "b": busy}
    assert newest_loads(known, {}, 100.0 + LOAD_SECONDS) == {"a": quiet}
    assert newest_loads({}, {"a": busy}, 100.0 + LOAD_SECONDS) == {}


def pool(**fields: object) -> PoolDefinition:
    return PoolDefinition.model_validate({"poolName": "main", **fields})


def test_only_a_pool_that_is_awake_and_may_grow_keeps_one_standing_by_unasked() -> None:
    grows = pool(minInstances=0, maxInstances=3)
    assert [standby_of(grows, count, preview=False) for count in range(4)] == [0, 1, 1, 0]
    assert standby_of(grows, 1, preview=True) == 0
    assert standby_of(pool(), 1, preview=False) == 0
    asked = pool(minInstances=0, standbyInstances=2)
    assert [standby_of(asked, count, preview=False) for count in (0, 1)] == [2, 2]
    assert standby_of(asked, 1, preview=True) == 0
    assert standby_of(pool(maxInstances=3, standbyInstances=0), 1, preview=False) == 0


def test_a_new_revision_needs_as_many_as_serve_the_one_in_force() -> None:
    grows = pool(minInstances=2, maxInstances=4)
    assert [to_switch(grows, routed, preview=False) for routed in (0, 2, 3, 9)] == [2, 2, 3, 4]
    assert [to_switch(grows, routed, preview=True) for routed in (0, 2, 9)] == [0, 2, 4]
