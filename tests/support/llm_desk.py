"""The tool `core.llm.generate` over a real Redis, with apps whose `llm` a test writes."""

from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
import yaml

from support.fake_llm import FakeLlm
from uhlp_cli.new_app import create_app
from uhlp_core import keys
from uhlp_core.secrets import SecretMissing
from uhlp_core.settings import Settings
from uhlp_mcp.checker import Checker
from uhlp_mcp.egress import Egress
from uhlp_mcp.governance import Governance
from uhlp_mcp.llm.errors import LlmError
from uhlp_mcp.llm.ledger import today
from uhlp_mcp.llm.tool import LlmTools
from uhlp_mcp.served import Served
from uhlp_mcp.tools import Caller, Emit, Toolbox
from uhlp_state.model import AppDefinition, Policy
from uhlp_state.snapshot import AppSnapshot
from uhlp_state.state_manager import StateManager

KEY = "sk-very-secret-0123456789"


@dataclass
class Desk:
    """One MCP daemon's LLM tools."""

    settings: Settings
    redis: Any
    secrets: dict[tuple[str, str], str] = field(default_factory=lambda: {("alpha", "secret:key"): KEY})
    checker: Checker = field(default_factory=Checker)
    served: Served = field(init=False)
    tools: LlmTools = field(init=False)
    toolbox: Toolbox = field(init=False)

    def open(self) -> None:
        """Make the tools."""
        served = self.served = Served(self.redis)
        manager = StateManager(self.settings.home, self.redis)
        self.tools = LlmTools(
            self.settings.home,
            self.redis,
            manager,
            served,
            self.resolve,
            Egress(private_addresses=self.settings.private_addresses),
            Governance(self.settings.home, served),
            self.checker,
        )
        self.toolbox = Toolbox.of(self.tools.tools())

    def resolve(self, app: str, reference: str) -> str:
        if (app, reference) not in self.secrets:
            raise SecretMissing(f"{app} has no {reference}")
        return self.secrets[app, reference]

    async def configure(
        self,
        llm: dict[str, Any] | None,
        deployment: str = "alpha",
        commit: str = "c" * 40,
        policies: dict[str, Any] | None = None,
    ) -> None:
        """Serve a revision with this `llm`."""
        app = deployment.partition("@")[0]
        definition = {"appId": app} if llm is None else {"appId": app, "llm": llm}
        snapshot = AppSnapshot(app, commit, "d" * 40, AppDefinition.model_validate(definition), ())
        snapshot = replace(
            snapshot,
            policies={name: Policy.model_validate(policy) for name, policy in (policies or {}).items()},
        )
        await self.redis.set(keys.routes(deployment), orjson.dumps({"snapshot": snapshot.to_json()}))
        self.served.doubt(deployment)

    async def script(self, *rules: dict[str, Any], app: str = "alpha", **llm: Any) -> None:
        """Serve an app with a repo whose scripted provider has these rules."""
        provider = {"type": "scripted", "file": "llm/rules.yaml", **llm.pop("provider", {})}
        config = {"providers": {"script": provider}, "model": "script/any", **llm}
        files = {
            "state/app_definition.yaml": {"appId": app, "llm": config},
            "state/component_registry.yaml": {"components": []},
            "state/llm/rules.yaml": {"rules": list(rules)},
        }
        contents = {
            path: yaml.safe_dump(content, sort_keys=False).encode() for path, content in files.items()
        }
        commit = create_app(self.settings, app, contents, "Begin")
        await self.configure(config, app, commit)

    async def ask(
        self, caller: Caller | None = None, emit: Emit | None = None, /, **arguments: Any
    ) -> dict[str, Any]:
        """Call the tool; without a prompt or messages it says hi."""
        if not arguments.keys() & {"prompt", "messages"}:
            arguments["prompt"] = "hi"
        return await self.toolbox.call(
            caller or Caller("alpha", "alpha"), "core.llm.generate", arguments, emit
        )

    async def counted(self, scope: str = "app|", app: str = "alpha") -> dict[str, int]:
        """The counters of a scope today."""
        await self.tools.flush()
        found = await self.redis.hgetall(keys.llm_usage(app, today()))
        return {
            name.decode().removeprefix(f"{scope}|"): int(value)
            for name, value in sorted(found.items())
            if name.decode().startswith(f"{scope}|")
        }

    async def log(self, app: str = "alpha") -> list[dict[str, Any]]:
        """The lines of the app's log."""
        await self.tools.flush()
        return [orjson.loads(line) for line in self.settings.home.app_log(app).read_bytes().splitlines()]


def openai(url: str, **more: Any) -> dict[str, Any]:
    """An `llm` with one provider that speaks OpenAI's protocol."""
    return _one({"type": "openai", "baseUrl": url}, more)


def anthropic(url: str, **more: Any) -> dict[str, Any]:
    """An `llm` with one provider that speaks Anthropic's protocol."""
    return _one({"type": "anthropic", "baseUrl": url}, more)


def at(kind: Any, fake: FakeLlm, **more: Any) -> dict[str, Any]:
    """An `llm` with one provider, `openai` or `anthropic`, that is the fake one."""
    config: dict[str, Any] = kind(fake.openai if kind is openai else fake.url, **more)
    return config


async def failing(desk: Desk, emit: Emit | None = None, **arguments: Any) -> LlmError:
    """How a call of the tool fails."""
    with pytest.raises(LlmError) as caught:
        await desk.ask(None, emit, **arguments)
    return caught.value


def _one(provider: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    prices = {"m": {"inputPerMillion": 1000.0, "outputPerMillion": 2000.0}}
    provider |= {"apiKey": "secret:key", "prices": prices, **more.pop("provider", {})}
    retries = {"max": 0}
    return {"providers": {"p": provider}, "model": "p/m", "retries": retries, "maxOutputTokens": 100, **more}
