"""One call of `core.llm.generate`, from its plan to a checked answer: fallbacks, repairs, retries, attempts.

Every attempt is reserved before and settled after, whatever comes of it: failed ones, repairs and fallbacks
count like any other.
"""

import asyncio
import random
import time
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from uhlp_core.secrets import SecretMissing
from uhlp_mcp.checker import Checker
from uhlp_mcp.llm import output
from uhlp_mcp.llm.accounting import Attempt, Tally, model_label
from uhlp_mcp.llm.errors import InvalidOutput, LlmError, NotConfigured, TimedOut
from uhlp_mcp.llm.ledger import Held, Ledger
from uhlp_mcp.llm.plan import Candidate, Plan
from uhlp_mcp.llm.provider import Completion, Message, Request
from uhlp_mcp.llm.providers import Providers
from uhlp_mcp.tools import Caller, Emit
from uhlp_state.json_schema.check_pool import JobFailed
from uhlp_state.model import LlmRetries
from uhlp_state.snapshot import AppSnapshot

FIRST_PAUSE_SECONDS = 0.25
"""Before the first retry, doubled for each further one, where the provider does not say."""


@dataclass(frozen=True, slots=True)
class Services:
    """What generations share."""

    providers: Providers
    ledger: Ledger
    checker: Checker


@dataclass(slots=True)
class Generation:
    """One call under way."""

    services: Services
    caller: Caller
    snapshot: AppSnapshot
    plan: Plan
    tally: Tally
    emit: Emit | None
    _told: bool = field(default=False, init=False)
    """Whether a part of an answer was told; those of other attempts would only confuse."""

    async def run(self) -> dict[str, Any]:
        """The result, from the first model that answers.

        Raises LlmError, SecretMissing, and what Redis raises.
        """
        failed: LlmError | SecretMissing | None = None
        for candidate in self.plan.candidates:
            try:
                return await self._of_model(candidate)
            except LlmError as error:
                self.tally.failures.append(f"{candidate.provider}/{candidate.model}: {error.code}")
                if not error.next_model:
                    raise
                failed = error
            except SecretMissing as error:
                if not candidate.defined.optional:
                    raise
                failed = failed or error
        assert failed is not None, "a plan has at least one candidate"
        raise failed

    async def _of_model(self, candidate: Candidate) -> dict[str, Any]:
        """A valid answer of one model, which may mend it."""
        request = replace(self.plan.request, model=candidate.model)
        for repair in count():
            completion = await self._retried(candidate, request)
            checked = await self._check(completion.text)
            if not checked["errors"]:
                return self._result(candidate, completion, checked["output"])
            if repair == self.plan.repairs:
                break
            request = replace(
                request, messages=(*request.messages, *_mend(completion.text, checked, self.plan))
            )
        cut = ", and it was cut short at max_tokens" if completion.finish_reason == "length" else ""
        errors = "; ".join(checked["errors"])
        raise InvalidOutput(f"the answer is not valid after {repair} repairs{cut}: {errors}")

    async def _retried(self, candidate: Candidate, request: Request) -> Completion:
        retry = 0
        while True:
            try:
                return await self._attempt(candidate, request)
            except LlmError as error:
                pause = _pause(error, retry, self.plan.config.retries)
                if pause is None:
                    raise
            await asyncio.sleep(pause)
            retry += 1

    async def _attempt(self, candidate: Candidate, request: Request) -> Completion:
        """Ask one model once."""
        most = (request.most_input_tokens, request.max_tokens)
        provider = await self.services.providers.get(
            self.caller.deployment, self.snapshot, candidate.provider, candidate.defined
        )
        label = model_label(self.caller.app, candidate.provider, candidate.model)
        account = self.plan.account(self.caller, f"{candidate.provider}/{label}")
        seconds = candidate.defined.timeout_seconds
        held = await self.services.ledger.reserve(
            account, sum(most), self._most_money(candidate, *most), seconds
        )
        self.tally.attempts += 1
        self.tally.ask(candidate.provider, candidate.model, scripted=candidate.scripted)
        started = time.monotonic()
        used, error = most, "cancelled"
        try:
            emit = None if self._told else self._emitter(candidate)
            async with asyncio.timeout(seconds):
                completion = await provider.complete(request, emit)
            used, error = (completion.input_tokens, completion.output_tokens), ""
            return completion
        except TimeoutError:
            error = TimedOut.code
            raise TimedOut(f"{candidate.provider} did not answer within {seconds:g} s") from None
        except LlmError as failed:
            error = failed.code
            used = most if failed.billed else (0, 0)
            raise
        finally:
            # What may have been used counts, even if the caller has gone meanwhile.
            self._settle(candidate, held, used, error, time.monotonic() - started)

    def _most_money(self, candidate: Candidate, input_tokens: int, output_tokens: int) -> int:
        """What an attempt may cost, in billionths of a dollar; 0 where money is not limited."""
        if not self.plan.limits_money:
            return 0
        nanos = candidate.cost(input_tokens, output_tokens)
        if nanos is None:
            raise NotConfigured(
                f"the price of {candidate.provider}/{candidate.model} is unknown, so a budget in USD cannot "
                f"be kept: add it to llm.providers.{candidate.provider}.prices, or limit tokens instead"
            )
        return nanos

    def _settle(
        self, candidate: Candidate, held: Held, used: tuple[int, int], error: str, seconds: float
    ) -> None:
        nanos = candidate.cost(*used) if any(used) else 0
        kind = candidate.defined.type.value
        self.tally.add(Attempt(candidate.provider, candidate.model, kind, seconds, error, used, nanos))
        amounts = {
            "calls": 1 if self.tally.attempts == 1 else 0,
            "attempts": 1,
            "failures": 1 if error else 0,
            "scripted": 1 if candidate.scripted else 0,
            "inputTokens": used[0],
            "outputTokens": used[1],
            "tokens": sum(used),
            "nanos": nanos or 0,
            "unpriced": 1 if nanos is None else 0,
        }
        self.services.ledger.settle(held, amounts)

    def _emitter(self, candidate: Candidate) -> Emit | None:
        if self.emit is None:
            return None
        emit = self.emit

        async def tell(text: str, *, scripted: bool = candidate.scripted) -> None:
            self._told = True
            await emit(text, scripted=scripted)

        return tell

    async def _check(self, text: str) -> dict[str, Any]:
        """The value and what is wrong with it, as from output.check."""
        form, schema = self.plan.form, self.plan.schema
        if schema is None and form in ("text", "json"):
            return output.check(text, form)  # takes as long as the text, whatever it says
        try:
            found: dict[str, Any] = await self.services.checker.run(
                self.caller.app, "check", text=text, form=form, schema=schema
            )
        except JobFailed as error:
            raise InvalidOutput(f"the answer cannot be checked: {error}") from None
        return found

    def _result(self, candidate: Candidate, completion: Completion, value: Any) -> dict[str, Any]:
        return {
            "completion": completion.text,
            "output": value,
            "model": candidate.model,
            "provider": candidate.provider,
            "scripted": candidate.scripted,
            "finishReason": completion.finish_reason,
            "usage": {"inputTokens": self.tally.input_tokens, "outputTokens": self.tally.output_tokens},
            "costUsd": self.tally.cost,
            "attempts": self.tally.attempts,
            "cached": False,
        }


def _mend(text: str, checked: dict[str, Any], plan: Plan) -> tuple[Message, Message]:
    """The model's own answer, and what is wrong with it."""
    errors = "\n".join(f"- {error}" for error in checked["errors"])
    return (
        Message("assistant", text or "(nothing)"),  # some providers refuse an empty turn
        Message(
            "user",
            f"That answer is not valid:\n{errors}\n"
            f"Answer again, with the whole corrected {plan.form.upper()} document and nothing else.",
        ),
    )


def _pause(error: LlmError, retry: int, retries: LlmRetries) -> float | None:
    """Seconds to wait before a model's retry of this number, from 0; None if there shall be none."""
    if not error.retryable or retry >= retries.max:
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= retries.max_wait_seconds else None
    # With jitter, so that callers who failed together do not come again together.
    pause: float = FIRST_PAUSE_SECONDS * 2**retry * random.uniform(0.5, 1.5)  # noqa: S311
    return min(pause, retries.max_wait_seconds)
