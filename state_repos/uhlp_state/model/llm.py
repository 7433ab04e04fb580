"""Which language models an app may call, and within what limits (specification 5.4, `core.llm.generate`)."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, JsonValue, model_validator

from uhlp_state.model.base import KEY, Count, Flag, Model, Name, Number, any_case, refusal
from uhlp_state.model.secrets import SecretReference
from uhlp_state.problems import Code, did_you_mean, quoted

MAX_TIMEOUT_SECONDS = 600.0
"""Of one call: longer than any answer that somebody waits for."""
MAX_CACHE_SECONDS = 7 * 24 * 3600.0
MAX_OUTPUT_TOKENS = 1_000_000
"""Of one answer; a typing mistake beyond this would reserve a whole budget."""

LLM_PARAMETERS = frozenset(
    {
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "reasoning_effort",
    }
)
"""What may be set of a call; each provider takes those that it has. None of them multiplies what a call
costs: `n` and the like would spend more than is reserved for it."""


class LlmProviderType(StrEnum):
    """What a provider speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    SCRIPTED = "scripted"


class BudgetScope(StrEnum):
    """Whose spending a budget limits."""

    APP = "app"
    COMPONENT = "component"
    USER = "user"


def _check_base_url(text: str) -> str:
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        host = None
    if host is None or url.scheme not in ("https", "http"):
        raise refusal(
            Code.BAD_URL, f"{KEY} must be an http(s) address, got {quoted(text)}", "write https://host/path"
        )
    if url.username is not None or "?" in text or "#" in text:
        # Not quoted: credentials are what people put there.
        remedy = "write only https://host/path, and the credential as `apiKey: secret:<name>`"
        raise refusal(Code.BAD_URL, f"{KEY} must not carry a user, a query or a fragment", remedy)
    if url.scheme == "http" and _is_public_address(host):
        remedy = "write https://; plain http is for this machine and private networks only"
        raise refusal(Code.BAD_URL, f"{KEY} would send the credential to {quoted(host)} in the clear", remedy)
    return text


def _is_public_address(host: str) -> bool:
    """Whether a host is a public address as it stands; what a name leads to is looked at when calling."""
    try:
        return ip_address(host).is_global
    except ValueError:
        return False


def _check_parameters(parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for name in parameters.keys() - LLM_PARAMETERS:
        remedy = did_you_mean(name, LLM_PARAMETERS, f"use some of {', '.join(sorted(LLM_PARAMETERS))}")
        raise refusal(Code.BAD_VALUE, f"{KEY} has the unknown parameter {quoted(name)}", remedy)
    most = parameters.get("max_tokens", 1)
    if not isinstance(most, int) or not 1 <= most <= MAX_OUTPUT_TOKENS:
        remedy = f"write a whole number from 1 to {MAX_OUTPUT_TOKENS}"
        raise refusal(Code.BAD_VALUE, f"{KEY} has a max_tokens that is no number of tokens", remedy)
    return parameters


LlmParameters = Annotated[dict[str, JsonValue], AfterValidator(_check_parameters)]
"""Parameters of a call that are known, by name."""


class LlmPrice(Model):
    """What a model costs, instead of the price list that comes with the platform."""

    input_per_million: Number = Field(ge=0, le=1_000_000)
    """USD for a million tokens of input."""
    output_per_million: Number = Field(ge=0, le=1_000_000)
    """USD for a million tokens of output."""


class LlmProvider(Model):
    """One provider of models."""

    type: Annotated[LlmProviderType, *any_case(LlmProviderType)]
    """`openai` (and everything that speaks its chat completions), `anthropic`, or `scripted`."""
    base_url: Annotated[str, AfterValidator(_check_base_url)] | None = None
    """Address of the API. Default: the provider's own. Private networks only if the operator allows it."""
    api_key: SecretReference | None = None
    """`secret:<name>`: the secret that holds the key. Never the key."""
    optional: Flag = False
    """Whether its models are passed over while the secret of `apiKey` is not set, instead of an error."""
    file: Name | None = None
    """Of a `scripted` provider: its rules, relative to `state/`, like `llm/scripted.yaml`."""
    prices: dict[Name, LlmPrice] = Field(default_factory=dict)
    """Prices by model, for models that the platform's price list does not know."""
    timeout_seconds: Number = Field(default=60.0, gt=0, le=MAX_TIMEOUT_SECONDS)
    """Seconds for one attempt. Default 60."""
    structured_output: Flag = True
    """False for servers that refuse a JSON Schema with the request; answers are checked in any case."""

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        scripted = self.type is LlmProviderType.SCRIPTED
        if scripted and self.file is None:
            raise refusal(Code.BAD_VALUE, "a scripted provider needs a `file`", "name its file of rules")
        if scripted and (self.base_url or self.api_key):
            remedy = "remove `baseUrl` and `apiKey`: its answers come from the file"
            raise refusal(Code.BAD_VALUE, "a scripted provider calls nobody", remedy)
        if self.optional and self.api_key is None:
            remedy = "remove `optional`, or name the secret as `apiKey: secret:<name>`"
            raise refusal(Code.BAD_VALUE, "`optional` says what happens without a secret", remedy)
        if not scripted and self.file is not None:
            remedy = "remove `file`, or write `type: scripted`"
            raise refusal(Code.BAD_VALUE, "only a scripted provider has a `file`", remedy)
        return self


class LlmRetries(Model):
    """What happens after a failure that may pass: a busy or unreachable provider."""

    max: Count = Field(default=2, ge=0, le=10)
    """Further attempts with each model. Default 2."""
    max_wait_seconds: Number = Field(default=20.0, ge=0, le=120)
    """A provider that asks for a longer pause than this is not waited for. Default 20."""


class LlmBudget(Model):
    """What may be spent in one day (UTC)."""

    per: Annotated[BudgetScope, *any_case(BudgetScope)] = BudgetScope.APP
    """`app` (all its deployments together), `component` or `user`: each of them may spend this much."""
    tokens: Count | None = Field(default=None, ge=1)
    """Tokens, input and output together."""
    usd: Number | None = Field(default=None, gt=0, le=1_000_000)
    """US dollars. Models of unknown price are refused then."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.tokens is None and self.usd is None:
            raise refusal(Code.BAD_VALUE, "a budget needs `tokens` or `usd`", "write how much may be spent")
        return self


class LlmConfig(Model):
    """The app's access to language models (`llm` in `app_definition.yaml`)."""

    providers: dict[Name, LlmProvider] = Field(min_length=1, max_length=20)
    """The providers by a name of your choice."""
    model: Name
    """What is called where nothing else is said: `<provider>/<model>`, or a model of the first provider."""
    fallbacks: tuple[Name, ...] = Field(default=(), max_length=5)
    """Models to try, in order, when the model fails."""
    parameters: LlmParameters = Field(default_factory=dict)
    """Default parameters of every call: `temperature`, `top_p`, `stop`, …"""
    max_output_tokens: Count = Field(default=4096, ge=1, le=MAX_OUTPUT_TOKENS)
    """Largest answer in tokens where a call does not say `max_tokens`. Default 4096."""
    timeout_seconds: Number = Field(default=120.0, gt=0, le=MAX_TIMEOUT_SECONDS)
    """Seconds for a whole call with all its attempts. Default 120."""
    retries: LlmRetries = LlmRetries()
    """What happens after a failure that may pass."""
    max_concurrency: Count = Field(default=8, ge=1, le=256)
    """Calls under way at the same time; further ones wait. Default 8."""
    requests_per_minute: Count | None = Field(default=None, ge=1)
    """Attempts in a minute; further ones are refused."""
    tokens_per_minute: Count | None = Field(default=None, ge=1)
    """Tokens in a minute; further attempts are refused."""
    budgets: tuple[LlmBudget, ...] = Field(default=(), max_length=20)
    """What may be spent in one day (UTC)."""
    cache_seconds: Number = Field(default=0.0, ge=0, le=MAX_CACHE_SECONDS)
    """How long the same question gets the same answer, in seconds. Default 0: never."""

    def split(self, name: str) -> tuple[str, str]:
        """The provider and the model that `name` stands for.

        A model's own name may hold slashes, so only a known provider's name counts as one.
        """
        provider, slash, model = name.partition("/")
        if slash and provider in self.providers:
            return provider, model
        return next(iter(self.providers)), name
