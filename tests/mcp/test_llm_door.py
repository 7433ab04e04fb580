"""`core.llm.generate` as a sandbox reaches it: through its door, with secrets of the platform's store."""

import pytest

from support.fake_llm import FakeLlm
from support.llm_desk import KEY, openai
from support.mcp_office import Office


async def test_a_sandbox_gets_an_answer_and_never_the_secret(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeLlm().serving() as fake:
        monkeypatch.setenv("UHLP_SECRET_ALPHA__KEY", KEY)
        await office.publish("alpha", llm=openai(fake.openai))
        result = await office.call("a0", "core.llm.generate", prompt="hi")
        assert (result["completion"], result["costUsd"]) == ("hello", 0.02)
        assert fake.seen[0].headers["authorization"] == f"Bearer {KEY}"
        served = await office.redis.get("uhlp:routes:alpha")
        assert KEY.encode() not in served


async def test_another_app_s_secret_opens_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeLlm().serving() as fake:
        monkeypatch.setenv("UHLP_SECRET_BETA__KEY", KEY)
        await office.publish("alpha", llm=openai(fake.openai))
        text = await office.refused("a0", "core.llm.generate", prompt="hi")
        assert text.startswith(
            "SECRET_MISSING: alpha has no secret key; set it with `uhlp secrets set key --app "
        )
        assert fake.seen == []


async def test_an_app_without_llm_is_told(office: Office) -> None:
    text = await office.refused("b0", "core.llm.generate", prompt="hi")
    assert text.startswith("LLM_NOT_CONFIGURED: this app may call no language model")
