"""Tells of every call and attempt: Prometheus metrics, and one line in the app's log. Never of any prompt.

Metric names are those of OpenTelemetry's conventions for generative AI, as its Prometheus exporter spells
them; money, for which there is no convention, is our own.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import orjson
from prometheus_client import Counter, Histogram

from uhlp_core.app_log import append
from uhlp_core.home import Home
from uhlp_mcp.llm.prices import dollars
from uhlp_mcp.tools import Caller

MAX_MODELS = 50
"""Models of one app that metrics and counters name; callers may ask for any, so further ones are `other`."""

BUCKETS = tuple(0.01 * 2**power for power in range(14))
"""Seconds, from 0.01 to 81.92: those of the convention."""

_LABELS = ("app", "gen_ai_provider_name", "gen_ai_request_model", "uhlp_provider_type")
"""The app chooses the provider's name; only its type tells whether it is a script."""

_DURATION = Histogram(
    "gen_ai_client_inference_duration_seconds",
    "One attempt at a model, as its caller sees it.",
    (*_LABELS, "error_type"),
    buckets=BUCKETS,
)
_INPUT = Counter("gen_ai_client_inference_usage_input_tokens", "Tokens of questions.", _LABELS)
_OUTPUT = Counter("gen_ai_client_inference_usage_output_tokens", "Tokens of answers.", _LABELS)
_COST = Counter("uhlp_llm_cost_usd", "What the attempts cost, where the price is known.", _LABELS)
_CALLS = Counter("uhlp_llm_calls", "Calls of core.llm.generate.", ("app", "outcome"))

_log = logging.getLogger(__name__)
_models: dict[str, set[str]] = {}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a model, as it ended."""

    provider: str
    model: str
    kind: str
    """The provider's type."""
    seconds: float
    error: str
    """Its code; empty for none."""
    tokens: tuple[int, int]
    """Of the question and of the answer."""
    nanos: int | None
    """What it cost in billionths of a US dollar; None where that is unknown."""


@dataclass(slots=True)
class Tally:
    """What one call has used so far, over all its attempts."""

    started: float = field(default_factory=time.monotonic)
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nanos: int | None = 0
    """Billionths of a US dollar; None once an attempt of unknown price was made."""
    provider: str = ""
    model: str = ""
    """Of the last attempt."""
    scripted: bool = False
    """Whether its provider is."""
    failures: list[str] = field(default_factory=list)
    """Models that did not answer, in order, each with the code of its error: a text can quote an answer."""
    seconds: float = 0.0
    """That the call took, once it has ended."""
    ended: list[Attempt] = field(default_factory=list)
    """For the metrics."""

    def ask(self, provider: str, model: str, *, scripted: bool) -> None:
        """A model is asked next."""
        self.provider, self.model, self.scripted = provider, model, scripted

    def add(self, attempt: Attempt) -> None:
        """Count an attempt that has ended."""
        self.input_tokens += attempt.tokens[0]
        self.output_tokens += attempt.tokens[1]
        self.nanos = None if attempt.nanos is None or self.nanos is None else self.nanos + attempt.nanos
        self.ended.append(attempt)

    def end(self) -> None:
        """The call has ended."""
        self.seconds = time.monotonic() - self.started

    @property
    def asked(self) -> str:
        """The model of the last attempt, as `<provider>/<model>`; empty if none was chosen yet."""
        return f"{self.provider}/{self.model}" if self.provider else ""

    @property
    def cost(self) -> float | None:
        """US dollars, or None where they are unknown."""
        return None if self.nanos is None else dollars(self.nanos)


def model_label(app: str, provider: str, model: str) -> str:
    """The model's name for metrics and counters, of which there must not be too many."""
    known = _models.setdefault(app, set())
    name = f"{provider}/{model}"
    if name not in known:
        if len(known) >= MAX_MODELS:
            return "other"
        known.add(name)
    return model


def _count(app: str, attempt: Attempt) -> None:
    """Add an attempt to the metrics."""
    labels = (app, attempt.provider, model_label(app, attempt.provider, attempt.model), attempt.kind)
    _DURATION.labels(*labels, attempt.error).observe(attempt.seconds)
    _INPUT.labels(*labels).inc(attempt.tokens[0])
    _OUTPUT.labels(*labels).inc(attempt.tokens[1])
    if attempt.nanos:
        _COST.labels(*labels).inc(dollars(attempt.nanos))


async def tell(home: Home, caller: Caller, tally: Tally, outcome: str, **more: Any) -> None:
    """Put a call in the metrics and in the log; `outcome` is `ok`, `cached`, or the code of the error."""
    for attempt in tally.ended:
        _count(caller.app, attempt)
    _CALLS.labels(caller.app, outcome).inc()
    failed = outcome not in ("ok", "cached")
    line = {
        "ts": time.time(),
        "level": "warning" if failed else "info",
        "stream": "llm",
        "app": caller.app,
        "deployment": caller.deployment,
        "instance": caller.instance,
        "component": caller.component or None,
        "requestId": caller.request_id or None,
        "message": f"{tally.asked or 'no model'}: {outcome}",
        "details": {
            "provider": tally.provider,
            "model": tally.model,
            "scripted": tally.scripted,
            "attempts": tally.attempts,
            "inputTokens": tally.input_tokens,
            "outputTokens": tally.output_tokens,
            "costUsd": tally.cost,
            "failures": tally.failures,
            "seconds": round(tally.seconds, 4),
            **more,
        },
    }
    encoded = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    try:
        await asyncio.to_thread(append, home.app_log(caller.app), encoded)
    except OSError as error:
        # The answer is there and paid for: it must reach the caller all the same.
        _log.error("the log cannot be written: %s", error.strerror, extra={"app": caller.app})
