"""What one call of `core.llm.generate` comes to: its arguments over the app's configuration."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from uhlp_mcp.llm.errors import BadRequest
from uhlp_mcp.llm.ledger import Account, Limit
from uhlp_mcp.llm.prices import NANOS, cost
from uhlp_mcp.llm.provider import Message, Request
from uhlp_mcp.tools import Caller
from uhlp_state.model import BudgetScope, LlmBudget, LlmConfig, LlmProvider, LlmProviderType
from uhlp_state.model.llm import LLM_PARAMETERS, MAX_OUTPUT_TOKENS

DEFAULT_REPAIRS = 1
MAX_REPAIRS = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model that may answer."""

    provider: str
    """The name that the app gave it."""
    defined: LlmProvider
    model: str
    tariffs: tuple[LlmProvider, ...]
    """Whose prices count."""

    @property
    def scripted(self) -> bool:
        """Whether rules of the app's answer, and no model."""
        return self.defined.type is LlmProviderType.SCRIPTED

    def cost(self, input_tokens: int, output_tokens: int) -> int | None:
        """Billionths of a US dollar by the dearest tariff that knows the model; None if none does."""
        known = (cost(tariff, self.model, input_tokens, output_tokens) for tariff in self.tariffs)
        return max((nanos for nanos in known if nanos is not None), default=None)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is decided before a model is asked."""

    config: LlmConfig
    bounding: tuple[LlmConfig, ...]
    """Those whose limits hold, all of them together."""
    candidates: tuple[Candidate, ...]
    """The model, then its fallbacks."""
    request: Request
    """To the first candidate."""
    form: str
    """One of output.FORMATS."""
    schema: Any
    """Of the answer; None for any."""
    repairs: int
    """How often a model may mend an answer that is not valid."""
    cache_seconds: float

    @property
    def max_concurrency(self) -> int:
        return min(config.max_concurrency for config in self.bounding)

    @property
    def limits_money(self) -> bool:
        return any(budget.usd is not None for budget in self._budgets)

    @property
    def _budgets(self) -> list[LlmBudget]:
        return [budget for config in self.bounding for budget in config.budgets]

    def check_caller(self, caller: Caller) -> None:
        """Raises BadRequest for a call whose budgets nobody can tell, as its sandbox left the token out."""
        if not caller.instance or caller.component:
            return
        apart = {budget.per for budget in self._budgets} - {BudgetScope.APP}
        if apart:
            raise BadRequest(
                f"this app has a budget per {min(apart)}, and nothing says for which request the call is: "
                "send the `mcp_token` of its context as `Authorization: Bearer` (uhlp_sdk does until it ends)"
            )

    def account(self, caller: Caller, model: str) -> Account:
        """Whose use an attempt counts as; `model` is the name that counters know."""
        # Clients from outside that call the tool themselves are no component: they share one budget.
        names = {BudgetScope.APP: "app|", BudgetScope.COMPONENT: f"component|{caller.component}"}
        if caller.user:
            names[BudgetScope.USER] = f"user|{caller.user}"
        # Whom nobody knows is no user: one budget for all of them would let each lock out the others.
        budgets = [budget for budget in self._budgets if budget.per in names]
        limits: list[Limit] = []
        for budget in budgets:
            if budget.tokens is not None:
                limits.append(Limit(names[budget.per], "tokens", budget.tokens))
            if budget.usd is not None:
                limits.append(Limit(names[budget.per], "nanos", int(budget.usd * NANOS)))
        counted = {BudgetScope.APP, *(budget.per for budget in budgets)}
        if caller.component:
            counted.add(BudgetScope.COMPONENT)
        # Users, of whom there may be very many, are only told apart where a budget asks for it.
        scopes = (*(names[scope] for scope in BudgetScope if scope in counted), f"model|{model}")
        return Account(
            caller.app,
            scopes,
            tuple(limits),
            _least(config.requests_per_minute for config in self.bounding),
            _least(config.tokens_per_minute for config in self.bounding),
        )


def make_plan(config: LlmConfig, given: Mapping[str, Any], production: LlmConfig | None = None) -> Plan:
    """Read the arguments of a call. Raises BadRequest.

    Args:
        config: of the deployment that calls.
        given: the arguments.
        production: for a preview, what its app's production says: its limits and prices hold as well.
    """
    schema = given.get("outputSchema")
    form = given.get("outputFormat", "text" if schema is None else "json")
    if form == "text" and schema is not None:
        raise BadRequest("outputSchema needs the outputFormat json, yaml or xml; text has no structure")
    names = dict.fromkeys((given.get("model", config.model), *config.fallbacks))
    candidates = tuple(_candidate(config, name, production) for name in names)
    parameters = {**config.parameters, **given.get("parameters", {})}
    max_tokens = parameters.pop("max_tokens", config.max_output_tokens)
    if not isinstance(max_tokens, int) or not 1 <= max_tokens <= MAX_OUTPUT_TOKENS:
        raise BadRequest(f"max_tokens must be a whole number from 1 to {MAX_OUTPUT_TOKENS}")
    if unknown := parameters.keys() - LLM_PARAMETERS:
        known = ", ".join(sorted(LLM_PARAMETERS))
        raise BadRequest(f"the parameter {min(unknown)[:60]!r} is not known; use {known}")
    for name, value in parameters.items():
        if not _is_finite(value):
            raise BadRequest(f"the parameter {name} is infinite or no number; leave it out, or give a number")
    if not _is_finite(schema):
        raise BadRequest("the outputSchema holds a number that is infinite or none, which JSON cannot carry")
    request = Request(
        candidates[0].model,
        _messages(given, form, schema),
        max_tokens,
        parameters,
        schema if form == "json" else None,
        given.get("promptName", ""),
    )
    checked = form != "text"
    return Plan(
        config,
        (config,) if production is None else (config, production),
        candidates,
        request,
        form,
        schema,
        given.get("maxRepairs", DEFAULT_REPAIRS) if checked else 0,
        given.get("cacheSeconds", config.cache_seconds),
    )


def _candidate(config: LlmConfig, name: str, production: LlmConfig | None) -> Candidate:
    provider, model = config.split(name)
    if not model:
        raise BadRequest(f"the model {name[:60]!r} names a provider only; write `<provider>/<model>`")
    defined = config.providers[provider]
    return Candidate(provider, defined, model, (defined, *_further_tariffs(defined, model, production)))


def _further_tariffs(defined: LlmProvider, model: str, production: LlmConfig | None) -> Iterator[LlmProvider]:
    """Whose prices a preview cannot go below: a price of 0 would escape from every budget in money."""
    if production is None or defined.type is LlmProviderType.SCRIPTED:
        return
    if defined.prices:
        yield defined.model_copy(update={"prices": {}})  # as the price list says
    yield from (known for known in production.providers.values() if model in known.prices)


def _is_finite(value: Any) -> bool:
    """Whether JSON can carry every number in a value."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _least(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _messages(given: Mapping[str, Any], form: str, schema: Any) -> tuple[Message, ...]:
    if ("prompt" in given) == ("messages" in given):
        raise BadRequest("give either a prompt or messages")
    if "prompt" in given:
        turns = [Message("user", given["prompt"])]
    else:
        turns = [Message(turn["role"], turn["content"]) for turn in given["messages"]]
    if not any(turn.role == "user" for turn in turns):
        raise BadRequest("messages need at least one with the role user")
    first = [Message("system", given["system"])] if given.get("system") else []
    if form != "text":
        first.append(Message("system", _instruction(form, schema)))
    return (*first, *turns)


def _instruction(form: str, schema: Any) -> str:
    wanted = f"Answer with one {form.upper()} document and nothing else."
    if schema is None:
        return wanted
    return f"{wanted} It must conform to this JSON Schema: {orjson.dumps(schema).decode()}"
