"""A proposal can be written by the app's own code, and runs before anybody has looked at it.

It has the rights that `main` gives to the app, and cannot add to them.
"""

import pytest

from support import community
from support.fault_server import PROGRAM, approve
from support.mcp_office import Office
from support.waiting import eventually
from uhlp_core.tokens import Claims, TokenKey

PROPOSAL = "alpha@proposals-run-1"
TRUE = "/usr/bin/true"
EXECUTE = "core.linux.executeCommand"
PROGRAMS = {"allowed": [{"path": TRUE}]}
SET = "core.state.setRuntimeValue"
NO_WRITING = {
    "rules": [
        {
            "id": "no-writing",
            "events": ["tool.call"],
            "components": ["greeter"],
            "tools": [SET],
            "action": "DENY",
        }
    ]
}


@pytest.fixture
async def proposal(office: Office) -> Office:
    """Its instance is p0."""
    await office.publish(PROPOSAL)
    await office.add(PROPOSAL, "p0")
    return office


async def test_it_runs_only_programs_that_main_allows(proposal: Office) -> None:
    await proposal.publish("alpha")
    await proposal.publish(PROPOSAL, commands=PROGRAMS)
    told = await proposal.refused("p0", EXECUTE, command=TRUE)
    assert told == f"COMMAND_REFUSED: {TRUE!r} is not among the programs that alpha allows: none"
    await proposal.publish("alpha", commands=PROGRAMS)
    await proposal.publish(PROPOSAL)

    async def runs() -> bool:
        answer = await proposal.rpc("p0", "tools/call", {"name": EXECUTE, "arguments": {"command": TRUE}})
        return not answer["result"]["isError"]

    await eventually(runs, "what main allows counts")


async def test_it_has_no_servers_and_approvals_of_its_own(proposal: Office) -> None:
    pins = await approve(proposal)
    offered = await community.names(proposal)
    assert offered

    async def offers_the_same() -> bool:
        return await community.names(proposal, "p0") == offered

    await eventually(offers_the_same, "what main approved counts")
    await proposal.publish("alpha")
    await community.serve(proposal, "fault", {"command": "fault"}, PROGRAM, deployment=PROPOSAL, pins=pins)

    async def offers_nothing() -> bool:
        return await community.names(proposal, "p0") == []

    await eventually(offers_nothing, "what only the proposal approves does not count")


@pytest.mark.parametrize("component", ["greeter", "renamed", ""])
async def test_it_cannot_leave_a_policy(proposal: Office, component: str) -> None:
    await proposal.publish("alpha", policies={"limits": NO_WRITING})
    await proposal.publish(PROPOSAL, policies={})
    key = TokenKey.of(proposal.settings.home)
    token = key.sign(Claims("alpha", PROPOSAL, "python", "p0", component), 60)
    params = {"name": SET, "arguments": {"key": "k", "value": 1}}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}

    async def refused() -> bool:
        _, answer = await proposal.post("p0", message, headers={"Authorization": f"Bearer {token}"})
        return bool(answer["result"]["isError"]) and (
            "limits/no-writing" in answer["result"]["content"][0]["text"]
        )

    await eventually(refused, "main's policies are in force")
