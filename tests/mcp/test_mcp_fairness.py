"""One app asks for all that there is: threads, programs, rules, connections, memory; others do not notice."""

import asyncio
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import orjson
import pytest
from argon2 import PasswordHasher
from hypothesis import given, settings
from hypothesis import strategies as st

from support.archive import Archive
from support.mcp_office import Office, listens
from support.waiting import eventually
from uhlp_mcp import door_server, doors, http, message_memory, network, turns
from uhlp_mcp.server import THREADS
from uhlp_mcp.turns import TooManyWaiting, Turns
from uhlp_policies.chain import Decision, PolicyChain
from uhlp_state import runtime_quota
from uhlp_state.model.policies import MAX_PATTERNS, PolicyEvent

BASH = "/usr/bin/bash"
SET = "core.state.setDefinitionFileContent"
GET = "core.state.getRuntimeValue"
PUT = "core.state.setRuntimeValue"
WRITE = "core.filesystem.writeFile"
RUN = "core.linux.executeCommand"
PATIENCE = 3.0
"""Seconds that the other app's call may take while the first one's never end; in peace it takes 0.1."""


@asynccontextmanager
async def under_way(calls: list[Awaitable[Any]]) -> AsyncIterator[list["asyncio.Task[Any]"]]:
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def at_once(call: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await call()


async def test_writers_that_wait_for_a_lock_hold_no_thread_of_others(office: Office) -> None:
    archive = Archive(office, "alpha")
    await office.publish("alpha", commit=archive.start, definitionWrites="propose")
    given = {"filePath": "notes/a.txt", "content": "x\n", "commitMessage": "m"}
    locked = os.open(archive.repo, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(locked, fcntl.LOCK_EX)
    try:
        async with under_way([office.call("a0", SET, **given) for _ in range(THREADS + 10)]) as writers:
            await at_once(lambda: office.call("b0", WRITE, path="x", content="x"))
            assert not any(writer.done() for writer in writers)
    finally:
        os.close(locked)


async def test_programs_that_run_long_keep_no_place_of_others(office: Office) -> None:
    for app in ("alpha", "beta"):
        await office.publish(app, commands={"allowed": [{"path": BASH}], "timeoutSeconds": 60})
    sleep = {"command": BASH, "args": ["-c", "exec sleep 50"]}
    async with under_way([office.call("a0", RUN, **sleep) for _ in range(20)]) as programs:
        await asyncio.wait(programs, timeout=0.5)
        true = {"command": BASH, "args": ["-c", "true"]}
        assert (await at_once(lambda: office.call("b0", RUN, **true)))["exitCode"] == 0
        assert not any(program.done() for program in programs)


async def test_rules_that_take_long_stop_nobody_else(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, go_on, in_time = threading.Event(), threading.Event(), []
    decide = PolicyChain.decide

    def slow(chain: PolicyChain, event: PolicyEvent, content: Any, **about: Any) -> Decision:
        if content == {"key": "slow"}:
            at_work.set()
            in_time.append(go_on.wait(PATIENCE))
        return decide(chain, event, content, **about)

    monkeypatch.setattr(PolicyChain, "decide", slow)
    rule = {"id": "r", "events": ["tool.call"], "action": "DENY", "patterns": ["never"]}
    await office.publish("alpha", policies={"slow": {"rules": [rule]}})

    async def is_at_work() -> bool:
        if not at_work.is_set():
            calls.append(asyncio.ensure_future(office.call("a0", GET, key="slow")))
        return at_work.is_set()

    calls: list[asyncio.Future[Any]] = []
    await eventually(is_at_work, "the rule is in force")
    await at_once(lambda: office.call("b0", GET, key="k"))
    go_on.set()
    await asyncio.gather(*calls)
    assert in_time
    assert all(in_time)


async def test_rules_that_take_long_to_compile_stop_nobody_else(office: Office) -> None:
    rules = [
        {
            "id": f"rule-{number}",
            "events": ["tool.call"],
            "action": "DENY",
            "patterns": [f"(?i)\\pL{{1,20}}{number}x{index}" for index in range(20)],
        }
        for number in range(MAX_PATTERNS // 20)
    ]
    await office.publish("alpha", policies={"slow": {"rules": rules}})
    async with under_way([office.call("a0", GET, key="k") for _ in range(10)]) as calls:
        while not all(call.done() for call in calls):
            await at_once(lambda: office.call("b0", GET, key="k"))
        assert [call.result() for call in calls] == [{"found": False}] * 10


async def test_a_place_stays_taken_as_long_as_its_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_WAITING", 1)
    places, end, begun = Turns(), asyncio.Event(), []

    async def work() -> None:
        begun.append(1)
        await end.wait()

    gone = asyncio.create_task(places.run("alpha", 1, work))
    await eventually(lambda: begun, "the work has begun")
    gone.cancel()
    await asyncio.wait([gone])
    waiting = asyncio.create_task(places.run("alpha", 1, work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaiting):
        await places.run("alpha", 1, work)
    assert begun == [1]  # the first one's client has gone, its work has not
    waiting.cancel()
    await asyncio.wait([waiting])
    end.set()
    await places.run("beta", 1, work)
    await eventually(lambda: places._queues == {}, "nothing is left")
    assert begun == [1, 1]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["enter", "end", "cancel"])), max_size=40))
async def test_alternating_limits_widen_nothing(steps: list[tuple[int, str]]) -> None:
    places = Turns()
    inside: dict[int, tuple[int, asyncio.Event]] = {}
    began: list[int] = []
    calls: dict[int, tuple[int, asyncio.Task[None]]] = {}

    async def call(number: int, limit: int) -> None:
        async with places.one("alpha", limit):
            assert len(inside) < limit
            began.append(number)
            inside[number] = (limit, asyncio.Event())
            try:
                await inside[number][1].wait()
            finally:
                del inside[number]

    for number, (limit, step) in enumerate(steps):
        if step == "enter":
            calls[number] = (limit, asyncio.create_task(call(number, limit)))
        elif step == "end" and inside:
            inside[sorted(inside)[limit % len(inside)]][1].set()
        elif calls:
            calls[sorted(calls)[limit % len(calls)]][1].cancel()
        for _ in range(5 if limit % 2 else 1):  # also several steps at once
            await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    waiting = [limit for limit, one in calls.values() if not one.done()]
    for limit, _ in inside.values():
        waiting.remove(limit)
    assert all(limit <= len(inside) for limit in waiting)
    for same in range(1, 5):
        order = [number for number in began if calls[number][0] == same]
        assert order == sorted(order)
    while not all(one.done() for _, one in calls.values()):
        for _, end in inside.values():
            end.set()
        await asyncio.sleep(0)
    assert all(one.cancelled() or one.exception() is None for _, one in calls.values())
    assert places._queues == {}


async def test_too_many_waiting_are_so_whatever_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_WAITING", 3)
    places, end = Turns(), asyncio.Event()
    limits = (1, 2, 1, 2, 1)
    async with under_way([places.run("alpha", limit, end.wait) for limit in limits]):
        for _ in range(5):
            await asyncio.sleep(0)
        for limit in limits:
            with pytest.raises(TooManyWaiting):
                await at_once(partial(places.run, "alpha", limit, end.wait))
        end.set()


async def test_connections_of_an_instance_are_bounded(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "MAX_CONNECTIONS", 3)
    await office.add("alpha", "a1")
    door = office.door("a1")
    held = [await asyncio.open_unix_connection(door) for _ in range(3)]
    reader, writer = await asyncio.open_unix_connection(door)
    async with asyncio.timeout(PATIENCE):
        assert await reader.read() == b""
    writer.close()
    assert await office.call("b0", "core.state.getRuntimeValue", key="k") == {"found": False}
    for _, writer in held:
        writer.close()

    async def answers() -> bool:
        try:
            await office.call("a1", "core.state.getRuntimeValue", key="k")
        except OSError:
            return False
        return True

    await eventually(answers, "places come free again")


async def test_who_says_nothing_is_hung_up_on(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_server, "FIRST_REQUEST_SECONDS", 0.5)
    host, port = office.url.removeprefix("http://").removesuffix("/mcp").split(":")
    for said in (b"", b"POST /mcp/alpha HTTP/1.1\r\nHost: localhost\r\nX: "):
        for opened in (
            asyncio.open_connection(host, int(port)),
            asyncio.open_unix_connection(office.door("a0")),
        ):
            reader, writer = await opened
            writer.write(said)
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == b""
            writer.close()
    assert await listens(office.door("a0"))


async def test_a_body_that_does_not_come_is_not_waited_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.1)
    reader, writer = await asyncio.open_unix_connection(office.door("a0"))
    writer.write(b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    async with asyncio.timeout(PATIENCE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


def call_with(junk: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    """A call of a tool, with something that nobody asked for and that is there until it is answered."""
    params = {"name": tool, "arguments": arguments, "_meta": {"junk": junk}}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


async def test_messages_of_an_app_that_wait_do_not_fill_the_memory(office: Office) -> None:
    await office.publish("alpha", commands={"allowed": [{"path": BASH}], "timeoutSeconds": 60})
    await office.add("alpha", "a1")
    junk: list[Any] = [[] for _ in range(200_000)]  # 600 KB on the wire, 14 MB in memory
    waiting = call_with(junk, RUN, command=BASH, args=["-c", "exec sleep 50"])
    statuses = []

    async def attack(instance: str) -> None:
        statuses.append((await office.post(instance, waiting))[0])

    async with under_way([attack(f"a{number % 2}") for number in range(12)]) as calls:
        await eventually(lambda: len(statuses) >= 10, "all but two have been refused")
        assert set(statuses) == {429}
        status, told = await office.post("a0", waiting)
        assert (status, told["error"]["message"]) == (
            429,
            "messages of the app that are under way take all the memory they may; send this one later",
        )
        assert await at_once(lambda: office.call("a0", GET, key="k")) == {"found": False}
        found = await at_once(lambda: office.post("b0", call_with(junk, GET, key="k")))
        assert found[1]["result"]["structuredContent"] == {"found": False}
        assert [call.done() for call in calls].count(False) == 2

    async def is_free() -> bool:
        return (await office.post("a0", call_with(junk, GET, key="k")))[0] == 200

    await eventually(is_free, "what the callers that have gone held is free")


async def test_messages_that_do_not_come_take_only_their_own_apps_memory(office: Office) -> None:
    announced = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n{" % http.MAX_BODY_BYTES
    chunked = b"POST /mcp HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
    writers = []
    for head in [announced, chunked] * (message_memory.MAX_OF_APP // http.MAX_BODY_BYTES // 2):
        _, writer = await asyncio.open_unix_connection(office.door("a0"))
        writer.write(head)
        writers.append(writer)
    value = "x" * 10_000

    async def status(instance: str) -> int:
        return (await office.post(instance, call_with(value, GET, key="k")))[0]

    async def is_full() -> bool:
        return await status("a0") == 429

    await eventually(is_full, "nothing is left for alpha")
    assert await status("b0") == 200
    for writer in writers:
        writer.close()

    async def is_free() -> bool:
        return await status("a0") == 200

    await eventually(is_free, "what they held is free")


async def test_what_parses_to_many_times_its_size_is_refused_and_large_texts_are_not(office: Office) -> None:
    status, told = await office.post("a0", b"[" + b"[]," * 1_300_000 + b"0]")
    assert (status, told["error"]["message"]) == (
        413,
        "the message has too many lists and objects; send it in several",
    )
    records = orjson.dumps([{"name": "x", "at": [12.5, 41.9]} for _ in range(72_000)]).decode()
    assert len(records) > 2 << 20
    for text in ("," * (1 << 20), records, '\\"' * 700_000):
        written = await office.call("a0", WRITE, path="x", content=text)
        assert written == {"success": True, "size": len(text)}
    numbers = list(range(100_000))
    await office.call("a0", PUT, key="k", value=numbers)
    assert (await office.call("a0", GET, key="k"))["value"] == numbers


async def test_an_apps_clients_cannot_take_all_of_the_network_door(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "MAX_OF_APP", 1)
    hashed = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("k")
    for app in ("alpha", "beta"):
        await office.publish(
            app,
            keys_of_api=[{"keyHash": hashed, "permissions": ["mcp:*"]}],
            commands={"allowed": [{"path": BASH}], "timeoutSeconds": 60},
        )

    async def call(app: str, script: str) -> int:
        params = {"name": RUN, "arguments": {"command": BASH, "args": ["-c", script]}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{office.url}/{app}", json=message, headers={"X-API-Key": "k"}) as response,
        ):
            return response.status

    async def hold() -> None:
        while await call("alpha", "exec sleep 50") == 429:
            pass  # it has met one of those below

    async with under_way([hold()]) as (running,):

        async def is_full() -> bool:
            return await call("alpha", "true") == 429

        await eventually(is_full, "alpha's one place is taken")
        assert await at_once(lambda: call("beta", "true")) == 200
        assert not running.done()


async def test_a_flood_of_calls_takes_no_connection_to_redis_from_others(office: Office) -> None:
    instances = ["a0", *(f"a{number}" for number in range(1, 4))]
    for instance in instances[1:]:
        await office.add("alpha", instance)

    async def ask(instance: str) -> None:
        while True:
            await office.call(instance, GET, key="k")

    async with under_way([ask(instance) for instance in instances for _ in range(50)]) as asking:
        for _ in range(50):
            assert await at_once(lambda: office.call("b0", GET, key="k")) == {"found": False}
        assert not any(one.done() for one in asking)


async def test_an_apps_values_do_not_fill_redis(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_quota, "MAX_DEPLOYMENT_BYTES", 100_000)
    value = "x" * 10_000
    for number in range(9):
        await office.call("a0", PUT, key=f"k{number}", value=value)
    told = await office.refused("a0", PUT, key="k9", value=value)
    assert told == (
        "QUOTA_EXCEEDED: all runtime values of alpha together would take more than 100000 bytes of Redis's "
        "memory; delete some, or give them a time to live"
    )
    await office.call("b0", PUT, key="k0", value=value)
    assert (await office.call("a0", GET, key="k8"))["value"] == value
