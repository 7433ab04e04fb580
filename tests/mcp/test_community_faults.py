"""Servers of others that run here are supervised, also when they are broken or evil."""

import asyncio
import os
import signal

import pytest

from support import community
from support.check_limits import limit_jobs
from support.community import ask, status
from support.fault_server import PROGRAM, alive, approve, call, descendants, look, refused, serve
from support.mcp_office import Office
from support.waiting import eventually
from uhlp_core.daemon import cancel
from uhlp_core.removal import remove_folder
from uhlp_core.secrets import SecretStore
from uhlp_mcp.community import session, sessions
from uhlp_mcp.community.connection import Connections
from uhlp_mcp.community.pins import Pins
from uhlp_mcp.community.registrations import Registrations
from uhlp_mcp.egress import Egress
from uhlp_mcp.served import Served


async def test_a_crash_ends_the_call_and_the_next_one_finds_a_new_server(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "FIRST_PAUSE_SECONDS", 0.0)
    await approve(office)
    assert (await refused(office, "crash")).startswith("MCP_SERVER_ENDED")
    assert await call(office, "echo", text="x") == "x"
    pid = (await status(office))["pid"]
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not alive(pid), "it is gone")
    await eventually(lambda: works(office), "it runs again")
    monkeypatch.setattr(sessions, "FIRST_PAUSE_SECONDS", 60.0)
    assert (await refused(office, "crash")).startswith("MCP_SERVER_ENDED")
    told = await refused(office, "echo", text="x")
    assert told.startswith("MCP_SERVER_UNAVAILABLE")
    assert "it is tried again in " in told


async def test_who_cannot_start_is_left_alone_longer_each_time(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await serve(office, args=["--die", "x"])
    # The third pause is four times the first, which is of nothing until then: so nobody waits.
    for first in (0.0, 0.0, 10.0):
        monkeypatch.setattr(sessions, "FIRST_PAUSE_SECONDS", first)
        assert "cannot start with x" in (await ask(office, "POST", "/look/alpha/fault"))[1]["detail"]
    told = await status(office)
    assert told["state"] == "failed"
    assert "cannot start with x" in told["error"]
    assert 20.0 < told["retryAfter"] <= 40.0
    _, again = await ask(office, "POST", "/look/alpha/fault")
    assert again["code"] == "MCP_SERVER_UNAVAILABLE"
    # Nobody tried: the pause would be the longest then, of a minute.
    assert (await status(office))["retryAfter"] <= told["retryAfter"]
    # A change may be what mends it.
    await approve(office, args=["--die-not", "x"])
    assert await call(office, "echo", text="x") == "x"


async def test_a_server_that_hangs_is_given_up_and_replaced(office: Office) -> None:
    await approve(office, timeoutSeconds=0.3)
    pid = (await status(office))["pid"]
    assert await refused(office, "hang") == (
        "TOOL_TIMED_OUT: the MCP server fault of alpha took more than 0.3 s"
    )
    await eventually(lambda: not alive(pid), "the one that hangs is killed")


async def test_answers_that_are_too_long_or_wrong_end_in_an_error(office: Office) -> None:
    await approve(office)
    assert await call(office, "garbage") == "after it"
    assert (await refused(office, "wrong")).startswith("INVALID_OUTPUT: ")
    told = await refused(office, "huge")
    assert told.startswith("MCP_SERVER_ENDED")
    assert "it is larger than 4194304 bytes" in told


async def test_more_blocks_than_anybody_reads_are_refused(office: Office) -> None:
    await approve(office)
    assert await refused(office, "blocks", content=[{"type": "text", "text": ""}] * 20_000) == (
        "INVALID_OUTPUT: the MCP server fault of alpha gave a result that is not taken: "
        "it gave 20000 blocks of content, and at most 1000 are taken"
    )
    assert await call(office, "echo", text="x") == "x"


async def test_a_message_of_more_values_than_are_read_ends_its_server(office: Office) -> None:
    """Reading one of 4 MiB took a second and 500 MiB, before anybody looked at what is in it."""
    await approve(office)
    text = '[{"a": "\\"}, ' * 40_000
    assert await call(office, "echo", text=text) == text
    told = await refused(office, "structured", content={"lists": [[]] * 40_000})
    assert told.startswith("MCP_SERVER_ENDED")
    assert "a line on its standard output that is not read: it has more than 65536 values" in told


async def test_what_a_server_prints_holds_up_nobody(office: Office) -> None:
    await approve(office)
    garbage = asyncio.create_task(office.call("a0", "community.fault.garbage", times=200_000))
    for _ in range(30):
        async with asyncio.timeout(10.0):
            assert await office.call("b0", "core.state.getRuntimeValue", key="k") == {"found": False}
    assert not garbage.done(), "so many lines take a minute and more, at the rate that an app has"
    garbage.cancel()


async def test_a_servers_own_schema_cannot_stop_the_daemon(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_jobs(monkeypatch, 4.0)
    await approve(office)
    endless = asyncio.create_task(refused(office, "endless"))
    calls = 0
    while not endless.done():
        async with asyncio.timeout(3.0):
            assert await office.call("b0", "core.state.getRuntimeValue", key="k") == {"found": False}
        calls += 1
    assert endless.result().startswith("INVALID_OUTPUT: ")
    assert "took too long" in endless.result()
    assert calls > 10


async def test_no_app_takes_all_servers(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    await approve(office)
    monkeypatch.setattr(sessions, "MAX_OF_APP", 1)
    await serve(office, "alpha@next", pins=await look(office))
    await office.add("alpha@next", "p0")
    answer = await office.rpc(
        "p0", "tools/call", {"name": "community.fault.echo", "arguments": {"text": "x"}}
    )
    assert "alpha has 1 MCP servers in use already" in answer["result"]["content"][0]["text"]
    await approve(office, "beta")
    assert await call(office, "echo", instance="b0", text="x") == "x"


async def test_a_slow_start_is_waited_for_and_a_too_slow_one_not(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await approve(office, args=["--slow", "0.5"])
    assert await call(office, "echo", text="x") == "x"
    monkeypatch.setattr(session, "START_SECONDS", 0.2)
    await serve(office, args=["--slow", "60"])
    _, told = await ask(office, "POST", "/look/alpha/fault")
    assert "it did not start within 0.2 s" in told["detail"]


async def test_nothing_of_an_idle_server_is_left(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    await approve(office)
    await call(office, "tree")
    pid = (await status(office))["pid"]
    # What shuts it in, the server, a shell, and what that runs.
    await eventually(lambda: len(descendants(pid)) == 4, "all of them run")
    children = descendants(pid)
    monkeypatch.setattr(sessions, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(sessions, "IDLE_SECONDS", 0.0)
    await eventually(lambda: not any(alive(one) for one in [pid, *children]), "the whole tree is gone")


async def test_a_server_whose_files_were_removed_tells_nobody_what_was_in_them(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = office.settings.home.mcp_servers / "alpha" / "fault"
    await approve(office)
    await call(office, "echo", text="x")
    first = (await status(office))["pid"]
    remove_folder(folder)
    # Another app of that name, with the same server.
    await approve(office)
    await call(office, "echo", text="x")
    second = (await status(office))["pid"]
    assert second != first
    await eventually(lambda: not alive(first), "the one that holds them open is ended")
    # Or nobody calls it any more.
    monkeypatch.setattr(sessions, "SWEEP_SECONDS", 0.05)
    remove_folder(folder)
    await eventually(lambda: not alive(second), "it is ended without a call")


async def test_a_call_is_cancelled_with_its_client(office: Office) -> None:
    await approve(office, timeoutSeconds=600, args=["--note", "noted"])
    params = {"name": "community.fault.ignore"}
    calls = [asyncio.create_task(office.rpc("a0", "tools/call", params)) for _ in range(2)]
    await eventually(lambda: len(noted(office, "called")) == 2, "both calls are with the server")
    calls[0].cancel()
    await eventually(lambda: len(noted(office, "cancelled")) == 1, "it hears of the first")
    calls[1].cancel()
    await eventually(lambda: noted(office, "cancelled") == noted(office, "called"), "and of the second")
    await asyncio.gather(*calls, return_exceptions=True)
    assert await call(office, "echo", text="x") == "x"


def noted(office: Office, what: str) -> list[str]:
    """The ids of calls that the server noted so, sorted."""
    file = office.settings.home.mcp_servers / "alpha" / "fault" / "noted"
    lines = file.read_text().splitlines() if file.exists() else []
    return sorted(line.removeprefix(f"{what} ") for line in lines if line.startswith(f"{what} "))


async def test_a_server_that_fills_the_disk_is_ended(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "FIRST_PAUSE_SECONDS", 0.01)
    small = PROGRAM.model_copy(update={"disk_limit": "16M"})
    await community.approve(office, "fault", {"command": "fault"}, small)
    assert await call(office, "fill", files=1, bytes=1 << 20) == "filled"
    assert (await status(office))["state"] == "ready"
    await call(office, "fill", files=2, bytes=12 << 20)
    # Only now: a look between the two files would tell of half of it.
    monkeypatch.setattr(sessions, "SWEEP_SECONDS", 0.05)
    told = (
        "has 24 MiB of at most 16 MiB and 100000 files; delete some in mcp/alpha/fault of the platform's home"
    )
    await eventually(lambda: says(office, told), "it is ended")
    assert (await refused(office, "keep")).startswith(
        "MCP_SERVER_UNAVAILABLE: the MCP server fault of alpha has"
    )
    for file in (office.settings.home.mcp_servers / "alpha" / "fault").glob("filler-*"):
        file.unlink()
    await eventually(lambda: works(office), "it starts again")


async def test_a_call_that_outlives_its_session_does_not_make_it_good_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SWEEP_SECONDS", 0.01)
    small = PROGRAM.model_copy(update={"disk_limit": "16M"})
    await community.serve(office, "fault", {"command": "fault"}, small)
    served, egress, pins = Served(office.redis), Egress(private_addresses=False), Pins(office.redis)
    registrations = Registrations(office.redis, served, egress)
    connections = Connections(SecretStore.of(office.settings), registrations)
    own = sessions.Sessions(office.settings.home, connections, egress, pins)
    sweep = asyncio.create_task(own.sweep())
    try:
        async with own.session(await served.snapshot("alpha"), "alpha", "fault") as session:
            await session.call("keep", {})
            # The result is there and is being checked, as files of the server become too many.
            (office.settings.home.mcp_servers / "alpha" / "fault" / "more").write_bytes(b"x" * (24 << 20))
            await eventually(lambda: not session.alive, "it is ended for the room it takes")
        slot = own.slot("alpha", "fault")
        assert (slot.state, slot.failures) == ("failed", 1)
        assert "has 24 MiB of at most 16 MiB" in slot.error
    finally:
        await cancel([sweep])
        await own.close()
        await pins.close()


async def says(office: Office, error: str) -> bool:
    told = await status(office)
    return told["state"] == "failed" and error in told["error"]


async def works(office: Office) -> bool:
    params = {"name": "community.fault.keep", "arguments": {}}
    return (await office.rpc("a0", "tools/call", params))["result"]["isError"] is False
