"""Name servers that answer late or never, as whoever owns a name likes: attacks of one app on all others."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from support.fake_llm import FakeLlm
from support.waiting import eventually
from uhlp_mcp import egress
from uhlp_mcp.egress import Egress, NameNotResolved
from uhlp_mcp.llm.wire import Wire

PATIENCE = 3.0
"""Seconds that the other app's call may take while the first one's names never resolve."""


class NameServers:
    """In the place of the system's resolver: `*.slow` is answered at the end only, `*.gone` not found."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.end = threading.Event()
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: str, port: int, **more: Any) -> list[Any]:
        self.asked.append(host)
        if host.endswith(".slow"):
            self.end.wait(60)
        if host.endswith(".gone"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._real("127.0.0.1", port, **more)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    found = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    yield found
    found.end.set()


async def outcome(call: Any) -> str:
    try:
        return str((await call)[0])
    except NameNotResolved as error:
        return str(error)


async def test_slow_names_of_an_app_hold_up_no_other_app(servers: NameServers, fake: FakeLlm) -> None:
    names = Egress(private_addresses=True)
    wire = Wire(names)
    slow = [asyncio.create_task(outcome(names.resolve("alpha", f"n{n}.slow", 1))) for n in range(100)]
    await eventually(lambda: len(servers.asked) == egress.LOOKUPS_OF_APP, "alpha's threads are taken")
    url = f"http://model.internal:{httpx2.URL(fake.url).port}/v1/chat/completions"
    async with asyncio.timeout(PATIENCE), wire.client("beta", {}) as client:
        assert (await client.post(url, content=b"{}")).status_code == 200
        # A name that is in alpha's queue is not for that in beta's.
        other = asyncio.create_task(outcome(names.resolve("beta", "n99.slow", 1)))
        await eventually(lambda: "n99.slow" in servers.asked, "beta's own lookup is under way")
    assert servers.asked[egress.LOOKUPS_OF_APP :] == ["model.internal", "n99.slow"]
    assert not any(one.done() for one in slow)
    servers.end.set()
    assert set(await asyncio.gather(*slow, other)) == {"127.0.0.1"}
    await wire.close()


async def test_calls_that_are_given_up_hold_no_more_threads_than_others(
    servers: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "LOOKUP_SECONDS", 0.05)
    names = Egress(private_addresses=True)
    for _ in range(3):
        told = await asyncio.gather(*(outcome(names.resolve("alpha", f"n{n}.slow", 1)) for n in range(9)))
        assert told == [f"the name n{n}.slow cannot be resolved: no answer within 0.05 s" for n in range(9)]
    assert len(servers.asked) == egress.LOOKUPS_OF_APP
    gone = asyncio.create_task(names.resolve("alpha", "n0.slow", 1))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    servers.end.set()
    await eventually(lambda: len(servers.asked) == 9 and not names._under_way, "all lookups have ended")
    assert await outcome(names.resolve("beta", "n0.slow", 1)) == "127.0.0.1"
    assert len(servers.asked) == 9


async def test_more_names_than_can_wait_are_refused(servers: NameServers) -> None:
    names = Egress(private_addresses=True)
    many = [asyncio.create_task(outcome(names.resolve("alpha", f"n{n}.slow", 1))) for n in range(300)]
    done, waiting = await asyncio.wait(many, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    assert "n299.slow cannot be resolved: 200 calls of the app are waiting" in many[-1].result()
    assert (len(done), len(waiting)) == (300 - 200 - egress.LOOKUPS_OF_APP, 200 + egress.LOOKUPS_OF_APP)
    servers.end.set()
    await asyncio.gather(*waiting)


async def test_a_name_is_looked_up_once_at_a_time_and_failures_are_remembered(
    servers: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Egress(private_addresses=True)
    told = await asyncio.gather(*(outcome(names.resolve("alpha", "no.gone", 1)) for _ in range(50)))
    told += [await outcome(names.resolve(app, "no.gone", 1)) for app in ("alpha", "beta")]
    assert (set(told), servers.asked) == (
        {"the name no.gone cannot be resolved: [Errno -2] Name or service not known"},
        ["no.gone"],
    )
    monkeypatch.setattr(egress, "FAILURE_SECONDS", 0.0)
    later = Egress(private_addresses=True)
    for _ in range(2):
        await outcome(later.resolve("alpha", "later.gone", 1))
    assert servers.asked == ["no.gone", "later.gone", "later.gone"], "a failure is not for ever"


async def test_what_is_remembered_is_bounded(servers: NameServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "MAX_REMEMBERED_NAMES", 2)
    names = Egress(private_addresses=True)
    for host in ("a.test", "b.test", "c.test", "b.test", "a.test"):
        assert await outcome(names.resolve("alpha", host, 1)) == "127.0.0.1"
    assert servers.asked == ["a.test", "b.test", "c.test", "a.test"]
