"""The tool `core.llm.generate`: the one way of apps to language models (specification 5.4)."""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from typing import Any

import orjson

from uhlp_core.errors import UhlpError, Unavailable
from uhlp_core.home import Home
from uhlp_core.ids import Deployment
from uhlp_core.store import UNAVAILABLE, Store
from uhlp_mcp.background import Background
from uhlp_mcp.checker import Checker
from uhlp_mcp.egress import Egress
from uhlp_mcp.llm.accounting import Tally, model_label, tell
from uhlp_mcp.llm.cache import ResponseCache, question
from uhlp_mcp.llm.errors import BadRequest, LlmError, NotConfigured, TimedOut, TooBusy
from uhlp_mcp.llm.generation import Generation, Services
from uhlp_mcp.llm.ledger import Ledger
from uhlp_mcp.llm.outgoing import going_out, put_back
from uhlp_mcp.llm.output import FORMATS
from uhlp_mcp.llm.plan import MAX_REPAIRS, Plan, make_plan
from uhlp_mcp.llm.providers import Providers, Resolve
from uhlp_mcp.schema import ANY, BOOLEAN, INTEGER, of, text
from uhlp_mcp.served import Served
from uhlp_mcp.tools import Caller, Emit, Guard, Tool
from uhlp_mcp.turns import TooManyWaiting, Turns
from uhlp_state.json_schema.check_pool import JobFailed
from uhlp_state.model.llm import MAX_CACHE_SECONDS, LlmConfig, LlmProvider, LlmProviderType
from uhlp_state.model.policies import PolicyEvent
from uhlp_state.snapshot import AppSnapshot
from uhlp_state.state_manager import StateManager

MAX_PROMPT = 2 * 1024 * 1024
"""Characters of one message: the largest context windows there are, and room."""

MAX_MESSAGES = 1000
MAX_KNOWN_SCHEMAS = 500
"""Schemas remembered as sound, so that each is looked through once."""

_log = logging.getLogger(__name__)

_TEXT = {"type": "string"}
_INPUT = of(
    {},
    {
        "prompt": text(MAX_PROMPT, 1, description="What to ask; or `messages` instead."),
        "messages": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_MESSAGES,
            "items": of({"role": {"enum": ["system", "user", "assistant"]}, "content": text(MAX_PROMPT)}),
        },
        "system": text(MAX_PROMPT, description="Instructions that come before everything else."),
        "model": text(256, 1, description="`<provider>/<model>` instead of the app's own choice."),
        "parameters": {"type": "object", "description": "temperature, max_tokens, top_p, stop, …"},
        "outputFormat": {"enum": list(FORMATS)},
        "outputSchema": {"type": "object", "description": "JSON Schema that the parsed answer must fulfil."},
        "maxRepairs": {"type": "integer", "minimum": 0, "maximum": MAX_REPAIRS},
        "promptName": text(256),
        "promptVersion": text(256),
        "cacheSeconds": {"type": "number", "minimum": 0, "maximum": MAX_CACHE_SECONDS},
    },
)
_OUTPUT = of(
    {
        "completion": _TEXT,
        "output": ANY,
        "model": _TEXT,
        "provider": _TEXT,
        "scripted": BOOLEAN,
        "finishReason": _TEXT,
        "usage": of({"inputTokens": INTEGER, "outputTokens": INTEGER}),
        "costUsd": {"type": ["number", "null"]},
        "attempts": INTEGER,
        "cached": BOOLEAN,
    }
)

_HOW_TO_CONFIGURE = (
    "this app may call no language model: write `llm:` with `providers` and `model` in "
    "state/app_definition.yaml (docs/llm.md has examples)"
)


class LlmTools:
    """The tool's handler, and what all its calls share."""

    def __init__(
        self,
        home: Home,
        redis: Store,
        manager: StateManager,
        served: Served,
        resolve: Resolve,
        egress: Egress,
        guard: Guard,
        checker: Checker,
    ) -> None:
        """`resolve` gives the secret that an app's `secret:<name>` stands for."""
        self._home = home
        self._guard = guard
        self._served = served
        self._checker = checker
        self._ledger = Ledger(redis)
        providers = Providers(egress, self._checker, manager, resolve)
        self._services = Services(providers, self._ledger, self._checker)
        self._cache = ResponseCache(redis)
        self._turns = Turns()
        self._telling = Background()
        self._sound_schemas: OrderedDict[bytes, None] = OrderedDict()

    def tools(self) -> tuple[Tool, ...]:
        return (
            Tool(
                "core.llm.generate",
                "Ask a language model that this app may call; the answer is parsed and checked.",
                _INPUT,
                _OUTPUT,
                self._whole,
                open_world=True,
                streaming=self._generate,
            ),
        )

    async def close(self) -> None:
        """To be called when no call is under way any more."""
        await self.flush()
        await self._services.providers.close()

    async def flush(self) -> None:
        """Wait until all calls that have ended are counted and in the log."""
        await self._ledger.close()
        await self._telling.finish()

    async def _whole(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return await self._generate(caller, given, None)

    async def _generate(self, caller: Caller, given: dict[str, Any], emit: Emit | None) -> dict[str, Any]:
        tally = Tally()
        outcome = "CANCELLED"
        try:
            if emit is not None and await self._guard.concerns(PolicyEvent.LLM_RESPONSE, caller):
                emit = None  # What has been sent cannot be redacted any more.
            result = await self._may_answer(caller, await self._answer(caller, given, tally, emit))
            outcome = "cached" if result["cached"] else "ok"
            return result
        except UhlpError as error:
            outcome = error.code
            error.scripted = tally.scripted
            if isinstance(error, LlmError):
                raise await self._may_tell(caller, tally, error) from None
            raise
        except UNAVAILABLE:
            outcome = "UNAVAILABLE"
            raise
        finally:
            tally.end()
            # An answer does not wait for its line in the log.
            self._telling.leave(tell(self._home, caller, tally, outcome, prompt=_prompt_of(given)))

    async def _answer(
        self, caller: Caller, given: dict[str, Any], tally: Tally, emit: Emit | None
    ) -> dict[str, Any]:
        snapshot = await self._served.snapshot(caller.deployment)
        config = snapshot.definition.llm
        if config is None:
            raise NotConfigured(_HOW_TO_CONFIGURE)
        given = await self._may_ask(caller, config, given)
        production = await self._production(caller)
        plan = make_plan(config, given, production)
        plan.check_caller(caller)
        if Deployment.parse(caller.deployment).is_proposal:
            _check_reviewed(plan, production)
        first = plan.candidates[0]
        tally.ask(first.provider, first.model, scripted=first.scripted)
        await self._check_schema(caller, plan)
        asked = _question(snapshot, plan) if plan.cache_seconds else ""
        if asked and (known := await self._cache.get(caller.deployment, asked)) is not None:
            label = model_label(caller.app, tally.provider, tally.model)
            account = plan.account(caller, f"{tally.provider}/{label}")
            self._ledger.count(account, {"calls": 1, "cached": 1, "scripted": 1 if first.scripted else 0})
            if emit is not None:
                await emit(known["completion"], scripted=first.scripted)
            return known
        generation = Generation(self._services, caller, snapshot, plan, tally, emit)
        its_turn = False
        try:
            async with (
                asyncio.timeout(config.timeout_seconds),
                self._turns.one(caller.app, plan.max_concurrency),
            ):
                its_turn = True
                result = await generation.run()
        except TooManyWaiting as error:
            raise TooBusy(f"{error} (`llm.maxConcurrency`)") from None
        except TimeoutError:
            if not its_turn:
                raise TooBusy(
                    "all calls that the app may make at a time went on (`maxConcurrency`)"
                ) from None
            raise TimedOut(f"no answer within llm.timeoutSeconds ({config.timeout_seconds:g} s)") from None
        if asked and _is_worth_keeping(plan, result):
            await self._remember(caller, asked, result, plan.cache_seconds)
        return result

    async def _remember(self, caller: Caller, asked: str, result: dict[str, Any], seconds: float) -> None:
        try:
            await self._cache.put(
                caller.deployment, asked, _as_remembered(result), seconds, MAX_CACHE_SECONDS
            )
        except UNAVAILABLE as error:
            # The answer is there and paid for: it must reach the caller all the same.
            _log.warning("an answer is not remembered: %s", error, extra={"app": caller.app})

    async def _production(self, caller: Caller) -> LlmConfig | None:
        """For a preview, which nobody has reviewed, what bounds it besides its own limits; else None."""
        if caller.deployment == caller.app:
            return None
        try:
            return (await self._served.snapshot(caller.app)).definition.llm
        except Unavailable:
            return None  # An app without production has no other limits than the preview's.

    async def _may_ask(self, caller: Caller, config: LlmConfig, given: dict[str, Any]) -> dict[str, Any]:
        """What is asked, as the policies let it go out. Raises PolicyDenied, BadRequest."""
        model = given.get("model") or config.model
        asked = going_out(given)
        checked = await self._guard.check(PolicyEvent.LLM_REQUEST, caller, asked, model=model)
        return put_back(given, asked, checked)

    async def _may_answer(self, caller: Caller, result: dict[str, Any]) -> dict[str, Any]:
        """What is answered, as the policies let it come in. Raises PolicyDenied."""
        model = f"{result['provider']}/{result['model']}"
        answer = [result["completion"], result["output"]]
        checked = await self._guard.check(PolicyEvent.LLM_RESPONSE, caller, answer, model=model)
        return {**result, "completion": checked[0], "output": checked[1]}

    async def _may_tell(self, caller: Caller, tally: Tally, error: LlmError) -> UhlpError:
        """A failure as the policies for answers let it be told, for its words can be those of an answer.

        Raises PolicyDenied.
        """
        [told] = await self._guard.check(PolicyEvent.LLM_RESPONSE, caller, [str(error)], model=tally.asked)
        return error if told == str(error) else error.saying(told)

    async def _check_schema(self, caller: Caller, plan: Plan) -> None:
        """Raises BadRequest, before anything is paid for, if answers cannot be checked against the schema."""
        if plan.schema is None:
            return
        schema = hashlib.sha256(orjson.dumps(plan.schema)).digest()
        if schema not in self._sound_schemas:
            try:
                mistakes = await self._checker.run(caller.app, "schema_errors", schema=plan.schema)
            except JobFailed as error:
                raise BadRequest(f"the outputSchema cannot be used: {error}") from None
            if mistakes:
                raise BadRequest(f"the outputSchema is not valid: {'; '.join(mistakes)}")
            self._sound_schemas[schema] = None
            if len(self._sound_schemas) > MAX_KNOWN_SCHEMAS:
                self._sound_schemas.popitem(last=False)


def _check_reviewed(plan: Plan, production: LlmConfig | None) -> None:
    """A proposal can be written by the app's own code, so it must not choose where prompts and secrets go.

    Raises NotConfigured.
    """
    known = production.providers.values() if production is not None else ()
    reviewed = {_destination(each) for each in known}
    for candidate in plan.candidates:
        defined = candidate.defined
        if defined.type is not LlmProviderType.SCRIPTED and _destination(defined) not in reviewed:
            raise NotConfigured(
                f"nobody has reviewed what {candidate.provider} gets: a proposal asks only providers that "
                "main defines alike (type, baseUrl, apiKey); merge it, or try it as a branch preview/<name>"
            )


def _destination(provider: LlmProvider) -> object:
    return provider.type, provider.base_url, provider.api_key


def _question(snapshot: AppSnapshot, plan: Plan) -> str:
    first = plan.candidates[0]
    # The rules of a scripted provider are a file, so its answers hold for the commit only.
    answering = [first.provider, first.defined.to_json(), snapshot.commit if first.defined.file else ""]
    return question(answering, plan.request, plan.form, plan.schema)


def _is_worth_keeping(plan: Plan, result: dict[str, Any]) -> bool:
    first = plan.candidates[0]
    return (result["provider"], result["model"], result["finishReason"]) == (
        first.provider,
        first.model,
        "stop",
    )


def _as_remembered(result: dict[str, Any]) -> dict[str, Any]:
    nothing = {"inputTokens": 0, "outputTokens": 0}
    return {**result, "usage": nothing, "costUsd": 0.0, "attempts": 0, "cached": True}


def _prompt_of(given: dict[str, Any]) -> dict[str, Any]:
    """Which prompt it was, never what it said."""
    return {"name": given.get("promptName"), "version": given.get("promptVersion")}
