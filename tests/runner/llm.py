"""An instance whose components are prompts, prepared and asked as the daemons do it."""

import itertools
from typing import Any

from runner.sandbox import Sandbox, request
from support.fake_mcp import FakeMcp
from uhlp_state.model import PromptTemplate

_numbers = itertools.count(1)


class Llm:
    """An instance whose only components are prompts, and the tool that they call."""

    def __init__(self, sandbox: Sandbox, mcp: FakeMcp) -> None:
        self.sandbox = sandbox
        self.mcp = mcp

    async def prepare(self, tree: str = "t1", **prompts: Any) -> tuple[int, Any]:
        listed = [
            {
                "componentId": name,
                "path": f"prompts/{name}.yaml",
                "prompt": PromptTemplate.model_validate(
                    {"template": prompt} if isinstance(prompt, str) else prompt
                ).to_json(),
            }
            for name, prompt in prompts.items()
        ]
        return await self.sandbox.ask("POST", "/prepare", {"tree": tree, "components": [], "prompts": listed})

    def request(self, name: str, body: Any = None, request_id: str = "", **context: Any) -> dict[str, Any]:
        found = request("unused", request_id=request_id or f"llm-{next(_numbers)}")
        found["requestData"] = {"source": "internal", "internalDetails": {"input": body}}
        found["context"] = {
            **found["context"],
            "taskDetails": {"prompt_template": f"prompts/{name}.yaml"},
            "mcp_endpoint": f"unix:{self.mcp.path}",
            "configuration": {"tone": "kind"},
            "componentId": name,
            **context,
        }
        return found

    async def ask(self, name: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        return await self.sandbox.ask("POST", "/execute", self.request(name, body, **more))
