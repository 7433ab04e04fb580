"""A provider that answers from rules in the app's repo, for examples and tests; calls nobody."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import orjson

from uhlp_mcp.checker import Checker
from uhlp_mcp.llm.errors import (
    BadRequest,
    LlmError,
    ModelRejected,
    ProviderUnavailable,
    RateLimited,
    Refused,
    TimedOut,
)
from uhlp_mcp.llm.gathering import Gathered
from uhlp_mcp.llm.provider import Completion, Request
from uhlp_mcp.tools import Emit
from uhlp_state.json_schema.check_pool import JobFailed
from uhlp_state.model import ScriptedFailure, ScriptedReply, ScriptedRule, ScriptedRules

CHARACTERS_PER_TOKEN = 4

_GROUP = re.compile(r"\{\{(\w{1,64})\}\}")


class Scripted:
    """One scripted provider of one deployment; remembers which reply of each rule comes next."""

    def __init__(self, app: str, rules: ScriptedRules, checker: Checker) -> None:
        self._app = app
        self._rules = rules.rules
        self._checker = checker
        self._given = [0] * len(rules.rules)

    async def complete(self, request: Request, emit: Emit | None) -> Completion:
        """See Provider.complete."""
        prompt = "\n".join(message.content for message in request.messages if message.role != "assistant")
        for index, rule in enumerate(self._rules):
            groups = await self._match(rule, request, prompt)
            if groups is not None:
                reply = rule.replies[self._given[index] % len(rule.replies)]
                self._given[index] += 1
                return await _answer(reply, groups, prompt, emit)
        raise BadRequest("no rule of the scripted provider matches; end the rules with one without `match`")

    async def _match(self, rule: ScriptedRule, request: Request, prompt: str) -> Mapping[str, str] | None:
        """The groups of the rule's pattern (none without one), or None if the rule does not match."""
        match = rule.match
        if (
            (match.model is not None and match.model != request.model)
            or (match.prompt_name is not None and match.prompt_name != request.prompt_name)
            or (match.contains is not None and match.contains not in prompt)
        ):
            return None
        if match.regex is None:
            return {}
        try:
            found: Mapping[str, str] | None = await self._checker.run(
                self._app, "find_groups", pattern=match.regex, text=prompt
            )
        except JobFailed as error:
            raise BadRequest(f"the pattern {match.regex[:60]!r} of a scripted rule: {error}") from None
        return found


async def _answer(
    reply: ScriptedReply, groups: Mapping[str, str], prompt: str, emit: Emit | None
) -> Completion:
    if reply.fail is not None and reply.fail is not ScriptedFailure.CUT:
        await asyncio.sleep(reply.delay_seconds)
        raise _failure(reply.fail, reply.retry_after_seconds)
    gathered = Gathered(emit)
    for chunk in reply.chunks or (_text(reply, groups),):
        await asyncio.sleep(reply.delay_seconds)
        await gathered.add(chunk)
    if reply.fail is ScriptedFailure.CUT:
        raise ProviderUnavailable("the stream broke off before the answer was whole", billed=True)
    return Completion(
        gathered.text,
        reply.finish_reason,
        _tokens(reply.input_tokens, prompt),
        _tokens(reply.output_tokens, gathered.text),
    )


def _text(reply: ScriptedReply, groups: Mapping[str, str]) -> str:
    if "json_value" in reply.model_fields_set:
        return orjson.dumps(_filled(reply.json_value, groups)).decode()
    return _filled_text(reply.text or "", groups)


def _filled(value: Any, groups: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _filled_text(value, groups)
    if isinstance(value, list):
        return [_filled(inner, groups) for inner in value]
    if isinstance(value, dict):
        return {key: _filled(inner, groups) for key, inner in value.items()}
    return value


def _filled_text(text: str, groups: Mapping[str, str]) -> str:
    return _GROUP.sub(lambda found: groups.get(found[1], found[0]), text)


def _tokens(given: int | None, text: str) -> int:
    return len(text) // CHARACTERS_PER_TOKEN if given is None else given


def _failure(kind: ScriptedFailure, retry_after: float | None) -> LlmError:
    match kind:
        case ScriptedFailure.RATE_LIMITED:
            return RateLimited("the scripted provider limits its calls", retry_after=retry_after)
        case ScriptedFailure.REFUSED:
            return Refused("the scripted provider refuses to answer")
        case ScriptedFailure.TIMEOUT:
            return TimedOut("the scripted provider did not answer in time")
        case ScriptedFailure.BAD_REQUEST:
            return ModelRejected("the scripted provider rejects the request")
        case _:
            return ProviderUnavailable("the scripted provider is unavailable", retry_after=retry_after)
