"""LLM components in containers: both images have what prompts are rendered with."""

from collections.abc import Awaitable, Callable

import pytest

from runner.llm import Llm
from runner.sandbox import Sandbox
from support.fake_mcp import FakeMcp
from uhlp_reconcilers.backends.docker_engine import Engine
from uhlp_reconcilers.images import build, recipe

Start = Callable[..., Awaitable[Sandbox]]


@pytest.mark.parametrize("name", [recipe.PYTHON_RUNNER, recipe.LLM_ORCHESTRATOR])
async def test_a_prompt_is_rendered_and_asked(engine: Engine, start: Start, name: str) -> None:
    build.build(engine, name, print)
    sandbox = await start(image=f"{recipe.REPOSITORY}/{name}")
    async with FakeMcp(sandbox.instance.dir / "mcp.sock") as mcp:
        llm = Llm(sandbox, mcp)
        assert (await llm.prepare(p="Say {{ input }} {{ 'x' | upper }}"))[0] == 200
        assert (await llm.ask("p", "hello"))[1]["data"] == "well"
        assert ">hello</data-" in mcp.calls[0]["messages"][0]["content"]
