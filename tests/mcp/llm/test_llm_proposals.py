"""Proposals, which an app's own code may have written, send its secrets nowhere that nobody has reviewed."""

from typing import Any

import pytest

from support.fake_llm import FakeLlm
from support.llm_desk import Desk, openai
from uhlp_core.errors import Unavailable
from uhlp_mcp.llm.errors import NotConfigured
from uhlp_mcp.tools import Caller

PROPOSAL = Caller("alpha", "alpha@proposals-sum-3")


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("key", ["secret:key", None])
async def test_a_proposal_sends_nothing_to_an_address_of_its_own(
    desk: Desk, fake: FakeLlm, fallback: bool, key: str | None
) -> None:
    await desk.configure(openai(fake.openai))
    thief = {**openai(fake.openai + "/thief")["providers"]["p"], "apiKey": key}
    proposed = (
        openai(fake.openai, fallbacks=["thief/m"]) if fallback else openai(fake.openai, model="thief/m")
    )
    proposed["providers"]["thief"] = thief
    await desk.configure(proposed, PROPOSAL.deployment)
    with pytest.raises(NotConfigured, match="nobody has reviewed what thief gets"):
        await desk.ask(PROPOSAL)
    assert fake.seen == []
    # Whoever pushes a preview could as well push to main.
    preview = Caller("alpha", "alpha@next")
    await desk.configure(proposed, preview.deployment)
    if fallback:
        await desk.ask(preview)


@pytest.mark.parametrize("production", [None, "no llm"])
async def test_without_production_nothing_is_reviewed(desk: Desk, fake: FakeLlm, production: Any) -> None:
    if production:
        await desk.configure(None)
    await desk.configure(openai(fake.openai), PROPOSAL.deployment)
    with pytest.raises(
        NotConfigured if production else Unavailable,
        match="nobody has reviewed" if production else "no revision of alpha is served yet",
    ):
        await desk.ask(PROPOSAL)
    assert fake.seen == []


async def test_a_proposal_is_tried_with_the_providers_of_main(desk: Desk, fake: FakeLlm) -> None:
    await desk.configure(openai(fake.openai))
    renamed = openai(fake.openai, parameters={"temperature": 0.5}, model="other/m")
    renamed["providers"]["other"] = renamed["providers"].pop("p")
    await desk.configure(renamed, PROPOSAL.deployment)
    await desk.ask(PROPOSAL)
    assert len(fake.seen) == 1
