"""What a server of others sees and shows: nothing of the platform, no secret, no word past a policy."""

import json
import os
from typing import Any

import pytest

from support import community
from support.community import ask, names, status
from support.fault_server import PROGRAM, alive, approve, call, descendants, look, refused, serve
from support.mcp_office import Office
from support.waiting import eventually
from uhlp_core import events
from uhlp_core.secrets import store as secret_store
from uhlp_mcp.community import sessions
from uhlp_mcp.community.stdio import user_of

SECRET = "s3cret-of-the-tests"
DIGITS = "73519264"
LONG = "".join(f"{number:03}" for number in range(133))
WIDE = "".join(f"ü{number:03}" for number in range(100))


async def test_a_server_of_one_app_is_nothing_to_another(office: Office) -> None:
    await approve(office)
    assert await names(office, "b0") == []
    answer = await office.rpc(
        "b0", "tools/call", {"name": "community.fault.echo", "arguments": {"text": "x"}}
    )
    assert "there is no tool named" in answer["error"]["message"]
    await approve(office, "beta")
    assert await call(office, "keep") == "1"
    assert await call(office, "keep") == "2"
    # The same program for another app has files, processes and a session of its own.
    assert await call(office, "keep", instance="b0") == "1"
    assert (await status(office))["pid"] != (await status(office, "beta"))["pid"]


async def test_it_sees_nothing_of_the_platform(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UHLP_SECRET_ALPHA__DB", SECRET)
    monkeypatch.setenv("LEAKED_BY_INHERITANCE", "1")
    await approve(office, "beta")
    await approve(office, args=["--dsn", "secret:db"], env={"DB_PASSWORD": "secret:db", "MODE": "test"})
    home = office.settings.home
    paths = [str(home.root), str(home.secrets), str(home.run), str(home.root / "mcp" / "alpha"), "/tmp"]
    found = json.loads(await call(office, "look", paths=paths))
    assert found["uid"] == (user_of("alpha", "fault") if os.geteuid() == 0 else os.geteuid())
    assert found["environment"].keys() == {"PATH", "LANG", "HOME", "TMPDIR", "DB_PASSWORD", "MODE"}
    # It got the secret, and what it says of it is shown to nobody.
    assert (found["environment"]["DB_PASSWORD"], found["command"][-1]) == ("***", "***")
    # Of the home there is only the way to its own folder.
    visible = {path: found[path] for path in paths[:4]}
    assert all(isinstance(entry, str) or set(entry) <= {"mcp", "fault"} for entry in visible.values()), (
        visible
    )
    pid = (await status(office))["pid"]
    assert set(found["processes"]) <= {pid, *descendants(pid)}


async def test_two_servers_of_one_app_are_strangers(office: Office) -> None:
    definition = {
        "commit": "c" * 40,
        "mcpServers": {"one": {"command": "fault"}, "two": {"command": "fault"}},
        "mcp_programs": {"fault": PROGRAM},
    }
    await office.publish("alpha", **definition)
    pins = await community.look(office, "one")
    await office.publish("alpha", **definition | {"commit": "d" * 40, "mcp_pins": {"one": pins, "two": pins}})
    assert [await community.text(office, f"{name}.keep") for name in ("one", "two")] == ["1", "1"]
    folder = office.settings.home.mcp_servers / "alpha"
    users = []
    for name, other in (("one", "two"), ("two", "one")):
        paths = [str(folder / name), str(folder / other)]
        found = json.loads(await community.text(office, f"{name}.look", paths=paths))
        users.append(found["uid"])
        assert set(found[paths[0]]) == {"kept"}
        assert isinstance(found[paths[1]], str)  # Why it is not to be seen.
    if os.geteuid() == 0:
        assert users == [user_of("alpha", "one"), user_of("alpha", "two")]
        assert len({*users, 0}) == 3


async def test_a_server_has_no_more_memory_and_processes_than_it_is_given(office: Office) -> None:
    small = PROGRAM.model_copy(update={"memory_limit": "64M", "max_processes": 8})
    await community.approve(office, "fault", {"command": "fault"}, small)
    assert await call(office, "allocate", bytes=16 << 20) == str(16 << 20)
    assert await call(office, "allocate", bytes=64 << 20) == "no memory"
    # It is one of the eight itself.
    assert 0 < int(await call(office, "fork", processes=100)) < 8
    assert await call(office, "echo", text="x") == "x"


@pytest.mark.parametrize("name", ["LD_PRELOAD", "NODE_OPTIONS", "PYTHONPATH", "PATH", "HOME", "TMPDIR"])
async def test_a_variable_that_the_operator_did_not_name_starts_nothing(office: Office, name: str) -> None:
    # As served before a push was refused for it.
    await serve(office, env={"MODE": "test", name: "/tmp/x"})
    code, told = await ask(office, "POST", "/look/alpha/fault")
    assert (code, told["code"]) == (409, "MCP_SERVER_UNAVAILABLE")
    assert f"the platform lets no app set {name} for it; remove that from its `env`" in told["detail"]
    assert (await status(office))["pid"] is None


async def test_a_secret_is_in_no_error_event_or_listing(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UHLP_SECRET_ALPHA__DB", SECRET)
    caplog.set_level("DEBUG")
    await approve(office, env={"DB_PASSWORD": "secret:db"})
    told = await refused(office, "crash", say=f"connecting with {SECRET} failed")
    assert told.startswith("MCP_SERVER_ENDED: the MCP server fault of alpha ended during the call")
    assert "it ended with code 3 and said: broken: connecting with *** failed" in told
    await serve(office, args=["--die", "secret:db"], env={"DB_PASSWORD": "secret:db"})
    failed = (await ask(office, "POST", "/look/alpha/fault"))[1]["detail"]
    assert "cannot start with ***" in failed
    seen = [told, failed, caplog.text, json.dumps(await status(office)), json.dumps(await names(office))]
    seen += [event.message for _, event in await events.history(office.redis, "alpha")]
    assert not [text for text in seen if SECRET in text]


async def test_a_secret_is_in_no_answer_of_any_kind(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UHLP_SECRET_ALPHA__DB", DIGITS)
    await approve(office, env={"DB_PASSWORD": "secret:db"})
    assert await refused(office, "refuse", say=f"{DIGITS} is wrong") == "TOOL_FAILED: *** is wrong"
    assert await refused(office, "fail", say=f"{DIGITS} is wrong") == (
        "MCP_SERVER_FAILED: the MCP server fault of alpha refused the call: *** is wrong"
    )
    said = {"text": f"is {DIGITS}", DIGITS: "key", "number": int(DIGITS), "list": [float(DIGITS), True, 1]}
    params = {"name": "community.fault.structured", "arguments": {"content": said}}
    answer = await office.rpc("a0", "tools/call", params)
    assert answer["result"]["structuredContent"] == {
        "text": "is ***",
        "***": "key",
        "number": "***",
        "list": ["***.0", True, 1],
    }
    assert DIGITS not in json.dumps(answer)


async def test_a_result_that_is_none_is_refused_without_a_part_of_a_secret_in_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UHLP_SECRET_ALPHA__DB", LONG)
    await approve(office, env={"DB_PASSWORD": "secret:db"})
    for content in (LONG, [{"type": "text", "text": {"is": LONG}}], [{"type": "text", LONG: 1}]):
        told = await refused(office, "blocks", content=content)
        assert told.startswith("INVALID_OUTPUT: the MCP server fault of alpha gave a result against its own")
        assert not [part for part in (LONG[:8], LONG[-8:]) if part in told]
    assert await refused(office, "blocks", content=7) == (
        "INVALID_OUTPUT: the MCP server fault of alpha gave a result against its own schema: "
        "content: Input should be a valid list"
    )


@pytest.mark.parametrize(
    ("secret", "say", "told"),
    [
        # Within what a message has, and at the end of what is kept: each cut goes through the secret.
        (SECRET, SECRET + "x" * 490, "roken: ***" + "x" * 490),
        (LONG, LONG * 11, "***" * 10),
        # And here through a character of two bytes as well.
        (WIDE, WIDE * 10 + "!", "***" * 8 + "!"),
    ],
)
async def test_no_rest_of_a_secret_is_among_last_words(
    office: Office, monkeypatch: pytest.MonkeyPatch, secret: str, say: str, told: str
) -> None:
    monkeypatch.setenv("UHLP_SECRET_ALPHA__DB", secret)
    await approve(office, env={"DB_PASSWORD": "secret:db"})
    assert (await refused(office, "crash", say=say)).endswith(f"it ended with code 3 and said: {told}")


async def test_a_missing_secret_says_how_to_set_it(office: Office) -> None:
    await serve(office, env={"DB_PASSWORD": "secret:db"})
    _, told = await ask(office, "POST", "/look/alpha/fault")
    assert told["code"] == "SECRET_MISSING"
    assert "uhlp secrets set db --app alpha" in told["detail"]


async def test_a_rotated_secret_means_a_new_session(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_store, "REMEMBER_SECONDS", 0.0)
    monkeypatch.setattr(sessions, "FRESH_SECONDS", 0.0)
    monkeypatch.setenv("UHLP_SECRET_ALPHA__DB", "first-value")
    await approve(office, env={"DB_PASSWORD": "secret:db"})
    before = (await status(office))["pid"]
    assert json.loads(await call(office, "look"))["environment"]["DB_PASSWORD"] == "***"
    assert (await status(office))["pid"] == before
    monkeypatch.setenv("UHLP_SECRET_ALPHA__DB", "second-value")
    assert (
        json.loads(await call(office, "look"))["environment"]["DB_PASSWORD"] == "***"
    )  # as only the value in force is
    await eventually(lambda: not alive(before), "the old session has ended")


CARD = "4111 1111 1111 1111"
PICTURE = {"type": "image", "mimeType": "image/png", "data": "NDExMSAxMTExIDExMTEgMTExMQ=="}
HIDING = [
    {"type": "text", "text": CARD},
    {"type": "resource", "resource": {"uri": "note://1", "mimeType": "text/plain", "text": CARD}},
    {"type": "resource", "resource": {"uri": f"note://{CARD.replace(' ', '-')}", "blob": "QQ=="}},
    {"type": "resource", "resource": {"uri": "note://1", "mimeType": CARD, "blob": CARD}},
    {"type": "resource_link", "uri": "note://1", "name": CARD, "title": CARD, "description": f"Of {CARD}."},
    {"type": "text", "text": "", "_meta": {"example.org/a": [{CARD: CARD}]}},
    {"type": "image", "mimeType": "image/png", "data": CARD},
]


async def governed(office: Office, action: str, message: dict[str, Any]) -> Any:
    """The result of a call while a rule for cards in results is in force."""
    rule = {"id": "cards", "events": ["tool.result"], "detect": ["card"], "action": action}
    definition, policies = {"command": "fault"}, {action.lower(): {"rules": [rule]}}
    pins = await look(office)
    await community.serve(office, "fault", definition, PROGRAM, pins=pins, policies=policies)
    sign = {"REDACT": "redacted", "DENY": "POLICY_DENIED"}[action]

    async def in_force() -> bool:
        return sign in json.dumps(await office.rpc("a0", "tools/call", message))

    await eventually(in_force, f"{action} is in force")
    return (await office.rpc("a0", "tools/call", message))["result"]


@pytest.mark.parametrize("block", HIDING)
async def test_no_word_of_a_block_gets_past_the_policies(office: Office, block: dict[str, Any]) -> None:
    await approve(office)
    message = {"name": "community.fault.blocks", "arguments": {"content": [block, PICTURE]}}
    changed, picture = (await governed(office, "REDACT", message))["content"]
    assert CARD not in json.dumps(changed)
    assert changed["type"] == block["type"]
    assert picture == PICTURE  # The bytes of a picture are no words.
    denied = await governed(office, "DENY", message)
    assert denied["content"][0]["text"].startswith("POLICY_DENIED: ")


async def test_no_word_of_an_error_gets_past_the_policies(office: Office) -> None:
    await approve(office)
    message = {"name": "community.fault.refuse", "arguments": {"say": f"{CARD} is not known"}}
    told = await governed(office, "REDACT", message)
    assert told["content"][0]["text"] == "TOOL_FAILED: [card redacted] is not known"
    assert (told["isError"], told["_meta"]) == (True, {"uhlp/error": {"code": "TOOL_FAILED"}})
    denied = await governed(office, "DENY", message)
    assert denied["content"][0]["text"].startswith("POLICY_DENIED: ")
    assert CARD not in json.dumps(denied)
