"""Lanes that are busy, gone, replaced or hostile; and clients that hang up."""

import asyncio

import pytest

from gateway.far_end import Answer, Sandbox, generic
from gateway.stage import Stage, raw, route
from support.waiting import eventually

POOL = {"maxQueue": 1, "queueTimeoutSeconds": 5}


class Gate:
    """A script that holds every request until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, request: dict[str, object]) -> Answer:
        await self.open.wait()
        return generic({"ok": True})


async def test_a_full_queue_refuses_and_the_waiting_request_is_served(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes, pool=POOL)
    gate = Gate()
    sandbox.script = gate
    first = asyncio.create_task(stage.ask("GET", "/"))
    await eventually(lambda: len(sandbox.requests) == 1, "the lane is taken")
    others = [asyncio.create_task(stage.ask("GET", "/")) for _ in range(2)]
    done, (waiting,) = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    refused = done.pop().result()
    assert (refused.status, refused.json()["code"], refused["Retry-After"]) == (503, "POOL_BUSY", "1")
    gate.open.set()
    assert (await first).status == (await waiting).status == 200
    assert len(sandbox.requests) == 2


async def test_waiting_ends_at_the_queue_s_timeout(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes, pool={"queueTimeoutSeconds": 0.1})
    gate = Gate()
    sandbox.script = gate
    first = asyncio.create_task(stage.ask("GET", "/"))
    await eventually(lambda: len(sandbox.requests) == 1, "the lane is taken")
    assert (await stage.ask("GET", "/")).json()["code"] == "POOL_BUSY"
    gate.open.set()
    assert (await first).status == 200


async def test_requests_spread_over_instances(stage: Stage, sandbox: Sandbox) -> None:
    other = Sandbox(stage.folder, "i1")
    await other.start()
    gate = Gate()
    sandbox.script = other.script = gate
    await stage.publish([route("/")], [*sandbox.lanes, *other.lanes])
    tasks = [asyncio.create_task(stage.ask("GET", "/")) for _ in range(2)]
    await eventually(lambda: len(sandbox.requests) == len(other.requests) == 1, "one each")
    gate.open.set()
    assert [task.status for task in await asyncio.gather(*tasks)] == [200, 200]
    await other.stop()


async def test_a_lane_that_cannot_be_reached_is_passed_over(stage: Stage, sandbox: Sandbox) -> None:
    dead = {
        "instance": "dead",
        "socket": str(stage.folder / "dead" / "w0.sock"),
        "capacity": 1,
        "serves": "JIT",
    }
    await stage.publish([route("/", "POST")], [dead, *sandbox.lanes])
    for _ in range(5):
        assert (await stage.ask("POST", "/", body=b"")).status == 200
    assert len(sandbox.requests) == 5


async def test_a_lane_that_says_it_is_full_is_passed_over(stage: Stage, sandbox: Sandbox) -> None:
    full = Sandbox(stage.folder, "full")
    await full.start()
    full.script = lambda _: (503, {"error": "BUSY"})
    await stage.publish([route("/", "POST")], [*full.lanes, *sandbox.lanes])
    assert (await stage.ask("POST", "/", body=b"")).status == 200
    assert len(full.requests) == len(sandbox.requests) == 1
    await full.stop()


async def test_the_outcome_of_a_lane_that_hung_up_is_told(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/", "POST")], sandbox.lanes)
    sandbox.outcomes["r1"] = {"code": "OUT_OF_MEMORY", "message": "internal"}
    sandbox.script = lambda _: None
    response = await stage.ask("POST", "/", ("X-Request-ID", "r1"), body=b"")
    assert (response.status, response.json()["code"]) == (500, "OUT_OF_MEMORY")


async def test_without_an_outcome_the_sandbox_is_lost(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/", "POST", "GET")], sandbox.lanes)
    sandbox.script = lambda _: None
    for method in ("POST", "GET"):
        response = await stage.ask(method, "/", body=b"")
        assert (response.status, response.json()["code"]) == (502, "SANDBOX_LOST")
    assert len(sandbox.requests) == 2


@pytest.mark.parametrize(("method", "status"), [("POST", 502), ("PUT", 200)])
async def test_what_died_with_its_instance_is_retried_if_it_may_be(
    stage: Stage, sandbox: Sandbox, method: str, status: int
) -> None:
    dying = Sandbox(stage.folder, "dying")

    async def die(request: dict[str, object]) -> None:
        await dying.stop()

    dying.script = die
    await dying.start()
    await stage.publish([route("/", "PUT", "POST")], [*dying.lanes, *sandbox.lanes])
    assert (await stage.ask(method, "/", body=b"")).status == status
    assert [len(dying.requests), len(sandbox.requests)] == [1, 1 if status == 200 else 0]


async def test_what_ended_two_instances_ends_no_third(stage: Stage, sandbox: Sandbox) -> None:
    dying = [Sandbox(stage.folder, name) for name in ("first", "second", "third")]
    for each in dying:
        await each.start()
        each.script = lambda _, ending=each: ending.stop()
    await stage.publish([route("/")], [lane for each in dying for lane in each.lanes])
    refused = await stage.ask("GET", "/")
    assert (refused.status, refused.json()["code"], refused["Retry-After"]) == (503, "SANDBOX_LOST", "1")
    assert sorted(len(each.requests) for each in dying) == [0, 1, 1]
    for each in dying:
        await each.stop()


async def test_a_lane_that_talks_nonsense_is_lost(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/", "POST")], sandbox.lanes)
    sandbox.script = lambda _: (200, b"SSH-2.0-evil\r\n\r\n")
    assert (await stage.ask("POST", "/", body=b"")).json()["code"] == "SANDBOX_LOST"


async def test_a_second_answer_never_reaches_another_request(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    one = b'HTTP/1.1 200 X\r\nContent-Length: 35\r\n\r\n{"resultType":"generic","data":"%s"}'
    sandbox.script = lambda _: (200, one % b"A" + one % b"B")
    assert (await stage.ask("GET", "/")).json() == "A"
    sandbox.script = lambda _: generic("C")
    assert (await stage.ask("GET", "/")).json() == "C"


async def test_a_handler_that_never_answers_ends_at_its_timeout(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes, pool={"timeoutSeconds": 0.1})
    sandbox.script = Gate()
    response = await stage.ask("GET", "/", ("X-Request-ID", "r1"))
    assert (response.status, response.json()["code"]) == (504, "HANDLER_TIMEOUT")
    await eventually(lambda: sandbox.cancelled == ["r1"], "the runner is told")


async def test_a_client_that_hangs_up_stops_its_handler(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes)
    gate = Gate()
    sandbox.script = gate
    client = await stage.connect()
    client.send(raw("GET", "/", ("X-Request-ID", "r1")))
    await eventually(lambda: len(sandbox.requests) == 1, "the handler runs")
    await client.close()
    await eventually(lambda: sandbox.cancelled == ["r1"], "the runner is told")
    gate.open.set()
    assert (await stage.ask("GET", "/")).status == 200


async def test_a_client_that_hangs_up_in_the_queue_frees_its_place(stage: Stage, sandbox: Sandbox) -> None:
    await stage.publish([route("/")], sandbox.lanes, pool=POOL)
    gate = Gate()
    sandbox.script = gate
    first = asyncio.create_task(stage.ask("GET", "/"))
    await eventually(lambda: len(sandbox.requests) == 1, "the lane is taken")
    client = await stage.connect()
    client.send(raw("GET", "/", ("X-Request-ID", "gone")))

    async def full() -> bool:
        return (await stage.ask("GET", "/")).status == 503

    await eventually(full, "the queue is full")
    await client.close()
    second = asyncio.create_task(stage.ask("GET", "/", ("X-Request-ID", "second")))
    gate.open.set()
    assert (await first).status == 200
    assert (await second).status in (200, 503)  # 503 if it came before the other's end was noticed
    assert "gone" not in [request["requestId"] for request in sandbox.requests]


async def test_a_table_is_swapped_under_load_without_losing_a_request(stage: Stage, sandbox: Sandbox) -> None:
    other = Sandbox(stage.folder, "i1", lanes=2)
    await other.start()
    await stage.publish([route("/", "POST")], sandbox.lanes)
    done = asyncio.Event()
    statuses: list[int] = []

    async def load() -> None:
        client = await stage.connect()
        while not done.is_set():
            client.send(raw("POST", "/", body=b"x"))
            statuses.append((await client.read()).status)
        await client.close()

    load_tasks = [asyncio.create_task(load()) for _ in range(4)]
    for number in range(10):
        lanes = other.lanes if number % 2 == 0 else sandbox.lanes
        await stage.publish([route("/", "POST")], lanes, commit=f"{number:040x}")
        before = len(statuses)
        await eventually(lambda before=before: len(statuses) > before + 10, "requests flow")
    done.set()
    await asyncio.gather(*load_tasks)
    assert set(statuses) == {200}
    assert len(sandbox.requests) + len(other.requests) == len(statuses)
    await other.stop()
