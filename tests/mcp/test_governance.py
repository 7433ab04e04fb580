"""Policies around every tool call: what is denied, redacted and on record, through a sandbox's own door."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.mcp_office import Office, stateless
from support.waiting import eventually
from uhlp_core.tokens import Claims, TokenKey
from uhlp_mcp import served

GET, SET = "core.state.getRuntimeValue", "core.state.setRuntimeValue"
CARD = "4111 1111 1111 1111"

POLICY = {
    "rules": [
        {
            "id": "no-counting",
            "events": ["tool.call"],
            "tools": ["core.state.increment*"],
            "when": [{"argument": "amount", "atLeast": 10}],
            "action": "DENY",
            "message": "at most 9 at a time",
        },
        {"id": "cards", "events": ["tool.result"], "detect": ["card"], "action": "REDACT"},
    ]
}


def audit(office: Office, app: str = "alpha") -> list[dict[str, Any]]:
    path = office.settings.home.app_log(app).parent / "audit.log"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        assert line.pop("ts") > 0
    return lines


async def govern(office: Office, policies: dict[str, Any], deployment: str = "alpha") -> None:
    """Publish, and wait until the daemon has the policies."""
    marker = {"rules": [{"id": "m", "events": ["tool.call"], "tools": ["core.state.deleteRuntimeValue"],
                         "action": "DENY", "message": json.dumps(sorted(policies))}]}  # fmt: skip
    await office.publish(deployment, policies={"00-marker": marker, **policies})

    async def in_force() -> bool:
        told = await office.rpc(
            "a0", "tools/call", {"name": "core.state.deleteRuntimeValue", "arguments": {"key": "-"}}
        )
        return "00-marker/m" in told["result"]["content"][0]["text"]

    await eventually(in_force, "the policies are in force")


async def test_a_call_that_a_policy_denies_does_nothing_and_says_why(office: Office) -> None:
    await govern(office, {"limits": POLICY})
    told = await office.refused("a0", "core.state.incrementRuntimeValue", key="n", amount=10)
    assert told == "POLICY_DENIED: the policy limits/no-counting refuses this: at most 9 at a time"
    assert await office.call("a0", GET, key="n") == {"found": False}
    assert await office.call("a0", "core.state.incrementRuntimeValue", key="n", amount=9) == {"value": 9}
    # Another app has other policies.
    assert await office.call("b0", "core.state.incrementRuntimeValue", key="n", amount=10) == {"value": 10}


async def test_a_result_is_redacted_and_each_decision_is_on_record(office: Office) -> None:
    await govern(office, {"limits": POLICY})
    await office.call("a0", SET, key="k", value=CARD)
    (office.settings.home.app_log("alpha").parent / "audit.log").unlink()
    assert await office.call("a0", GET, key="k") == {"found": True, "value": "[card redacted]"}
    await office.refused("a0", "core.state.incrementRuntimeValue", key="n", amount=10)
    common = {
        "model": "",
        "deployment": "alpha",
        "instance": "a0",
        "component": "",
        "user": "",
        "requestId": "",
    }
    assert audit(office) == [
        {"event": "tool.result", "action": "REDACT", "rule": "limits/cards", "redactions": {"card": 1},
         "tool": GET, **common},
        {"event": "tool.call", "action": "DENY", "rule": "limits/no-counting", "redactions": {},
         "tool": "core.state.incrementRuntimeValue", **common},
    ]  # fmt: skip


async def test_a_call_that_no_rule_concerns_leaves_no_line_and_every_other_does(office: Office) -> None:
    await office.call("a0", SET, key="k", value=1)
    assert not (office.settings.home.app_log("alpha").parent / "audit.log").exists()
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    recording = re.search(r"# state/policies/record\.yaml\n(.*?)```", page, re.DOTALL)
    assert recording is not None
    await govern(office, {"record": yaml.safe_load(recording[1])})
    (office.settings.home.app_log("alpha").parent / "audit.log").unlink()
    await office.call("a0", SET, key="k", value=1)
    assert [(line["event"], line["action"], line["tool"]) for line in audit(office)] == [
        ("tool.call", "ALLOW", SET)
    ]


@pytest.mark.parametrize("revision", [None, "2025-11-25", "2024-11-05", "2026-07-28"])
async def test_policies_hold_in_every_revision(office: Office, revision: str | None) -> None:
    await govern(office, {"limits": POLICY})
    await office.call("a0", SET, key="k", value=CARD)
    increment = "core.state.incrementRuntimeValue"
    for tool, arguments, told in (
        (GET, {"key": "k"}, "[card redacted]"),
        (increment, {"key": "n", "amount": 10}, "POLICY_DENIED: the policy limits/no-counting"),
    ):
        request = stateless("tools/call", tool, arguments=arguments)
        if revision != "2026-07-28":
            request["headers"] = {} if revision is None else {"MCP-Protocol-Version": revision}
            del request["body"]["params"]["_meta"]
        status, answer = await office.post("a0", **request)
        assert (status, told in answer["result"]["content"][0]["text"]) == (200, True)


async def test_a_rule_for_a_component_holds_for_who_leaves_the_token_out(office: Office) -> None:
    rule = {"id": "r", "events": ["tool.call"], "tools": [SET], "components": ["greet"], "action": "DENY"}
    await govern(office, {"greet": {"rules": [rule]}})
    key = TokenKey.of(office.settings.home)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    params = {"name": SET, "arguments": {"key": "k", "value": 1}}

    async def fails(**headers: str) -> bool:
        _, answer = await office.post("a0", {**body, "params": params}, headers=headers)
        return bool(answer["result"]["isError"])

    def bearer(component: str) -> dict[str, str]:
        claims = Claims("alpha", "alpha", "python", "a0", component)
        return {"Authorization": f"Bearer {key.sign(claims, 60)}"}

    assert await fails(**bearer("greet"))
    assert await fails()
    assert not await fails(**bearer("other"))


async def test_an_allow_list_hides_no_tool_but_denies_every_other(office: Office) -> None:
    only = {
        "otherTools": "DENY",
        "rules": [{"id": "get", "events": ["tool.call"], "tools": [GET], "action": "ALLOW"}],
    }
    await govern(office, {"only": only})
    assert await office.call("a0", GET, key="k") == {"found": False}
    told = await office.refused("a0", SET, key="k", value=1)
    assert told == (
        "POLICY_DENIED: the policy only refuses this: "
        f"no rule of it allows this call of {SET} (`otherTools: DENY`)"
    )
    # By its other name, it is the same tool.
    assert "POLICY_DENIED" in await office.refused("a0", SET.replace(".", "__"), key="k", value=1)


async def test_redacted_arguments_must_still_be_what_the_tool_takes(office: Office) -> None:
    policy = {"rules": [{"id": "r", "events": ["tool.call"], "patterns": ["^[a-z]+$"], "action": "REDACT"}]}
    await govern(office, {"p": policy})
    assert "INVALID_ARGUMENTS" in await office.refused("a0", GET, key="k")


async def test_without_a_place_for_the_record_nothing_is_done(office: Office) -> None:
    await govern(office, {"limits": POLICY})
    log = office.settings.home.app_log("alpha").parent / "audit.log"
    log.unlink()
    log.mkdir()
    assert (await office.refused("a0", "core.state.incrementRuntimeValue", key="n", amount=1)).startswith(
        "UNAVAILABLE: the audit log cannot be written"
    )
    log.rmdir()
    assert await office.call("a0", GET, key="n") == {"found": False}


@pytest.mark.parametrize("name", [GET, SET])
async def test_what_is_not_served_yet_has_no_policies_and_so_no_tools(office: Office, name: str) -> None:
    await office.add("gamma", "g0")
    assert (await office.refused("g0", name, key="k", value=1)).startswith(
        "UNAVAILABLE: no revision of gamma"
    )


async def test_policies_known_last_stay_in_force_while_redis_is_away(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "FRESH_SECONDS", 0.0)
    await govern(office, {"limits": POLICY})
    office.redis_server.kill()
    told = await office.refused("a0", "core.state.incrementRuntimeValue", key="n", amount=10)
    assert told.startswith("POLICY_DENIED: ")
