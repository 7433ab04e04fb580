"""LLM components: render the prompt, call `core.llm.generate`, and answer as a handler would be answered.

Runs in the runner's main process, in every mode, beside whatever runs handlers; only the rendering is done
elsewhere (`rendering`). No key of a provider ever comes here: the tool holds them.
"""

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from typing import Any

from . import failure
from .config import Config
from .events import Events
from .failure import Failure
from .invoking import failure_body, shape
from .output import Label, Log
from .rendering import RendererLost, Rendering
from .strict import dumps
from .tool_call import Emit, Server, Tools

GENERATE = "core.llm.generate"

REMEMBERED_TREES = 64
"""Revisions whose prompts are kept: a few KiB each."""

_TOLD = ("model", "provider", "scripted", "cached", "attempts", "finishReason", "usage", "costUsd")
"""What is passed on of how an answer came about."""


class Prompts:
    """The LLM components of an instance."""

    def __init__(self, config: Config, log: Log) -> None:
        self._config = config
        self._log = log
        self._rendering = Rendering(config, log)
        self._tools = Tools()
        self._prompts: OrderedDict[str, dict[str, dict[str, Any]]] = OrderedDict()
        self._running: dict[asyncio.Task[dict[str, Any]], str] = {}
        self.served = 0

    @property
    def lane(self) -> dict[str, Any]:
        """As `GET /readyz` answers it."""
        return {"socket": "execute.sock", "capacity": self._config.concurrency, "serves": "LLM"}

    @property
    def prepared(self) -> list[str]:
        """Trees whose prompts are known."""
        return list(self._prompts)

    @property
    def active(self) -> int:
        """Requests that run now."""
        return len(self._running)

    async def check(self, prompts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What keeps the prompts of `POST /prepare` from being rendered, as it answers."""
        if not prompts:
            return []
        try:
            found = await self._rendering.check([each["prompt"] for each in prompts])
        except RendererLost as lost:
            why = f"templates cannot be rendered here: {lost}; an image for LLM components has Jinja2"
            found = [(None, why)] * len(prompts)
        return [
            {
                "componentId": each["componentId"],
                "script": each["path"],
                "line": wrong[0],
                "message": wrong[1],
            }
            for each, wrong in zip(prompts, found, strict=True)
            if wrong
        ]

    def keep(self, tree: str, prompts: list[dict[str, Any]]) -> None:
        """Remember a revision's prompts, by path."""
        self._prompts[tree] = {
            each["path"]: {**each["prompt"], "version": _version(each["prompt"])} for each in prompts
        }
        self._prompts.move_to_end(tree)
        while len(self._prompts) > REMEMBERED_TREES:
            self._prompts.popitem(last=False)

    async def execute(self, request: dict[str, Any], events: Events | None) -> tuple[int, bytes]:
        """Answer one request: HTTP status and body. With `events` the completion goes there as it comes."""
        request_id, context = request["requestId"], request["context"]
        began = time.perf_counter()
        work = asyncio.create_task(self._generate(request, events.delta if events else None))
        self._running[work] = request_id
        try:
            generated = await self._result(work, context)
            if events is not None:
                events.scripted = generated.get("scripted") is True
            # Only a component that says so lets an LLM choose status and headers.
            kind, data = shape(generated["output"], context.get("expectedResultFormat") or "generic")
            encoded = dumps(data)
            if len(encoded) > self._config.limits["maxOutputBytes"]:
                raise failure.too_much_output(self._config.limits["maxOutputBytes"])
        except Failure as failed:
            label = Label(request_id, context.get("componentId"), context.get("revision"))
            self._log.write("error", "runner", f"{failed.code}: {failed.message}", label)
            return 500, failure_body(request_id, failed, time.perf_counter() - began)
        finally:
            del self._running[work]
            self.served += 1
        milliseconds = (time.perf_counter() - began) * 1000
        return 200, b'{"requestId":%b,"resultType":"%b","data":%b,"metrics":%b}' % (
            dumps(request_id),
            kind,
            encoded,
            dumps(_metrics(generated, milliseconds)),
        )

    def cancel(self, request_id: str) -> bool:
        """Stop a request; False if there is no such request."""
        meant = [work for work, running in self._running.items() if running == request_id]
        for work in meant:
            work.cancel()
        return bool(meant)

    def close(self) -> None:
        """End the renderer, and let go of the MCP server."""
        self._rendering.close()
        self._tools.close()

    async def _result(self, work: "asyncio.Task[dict[str, Any]]", context: dict[str, Any]) -> dict[str, Any]:
        """Wait for the work within the request's time. Raises Failure."""
        timeout_ms = context.get("timeoutMs") or self._config.limits["timeoutMs"]
        try:
            done, _ = await asyncio.wait([work], timeout=timeout_ms / 1000)
            if not done:
                raise failure.timed_out(timeout_ms)
            return work.result()
        except asyncio.CancelledError:
            if work.cancelled():
                raise failure.cancelled() from None
            raise
        finally:
            work.cancel()

    async def _generate(self, request: dict[str, Any], emit: Emit | None) -> dict[str, Any]:
        """The result of `core.llm.generate`. Raises Failure."""
        context = request["context"]
        path = context["taskDetails"]["prompt_template"]
        prompt = self._prompts.get(context["tree"], {}).get(path)
        if prompt is None:
            why = f"{path}: no such prompt is prepared for tree {context['tree']:.12}"
            raise Failure(failure.HANDLER_NOT_FOUND, why)
        rendered = await self._rendering.render(path, prompt, _variables(request))
        arguments = {
            **rendered,
            "model": prompt["model"],
            "parameters": prompt["parameters"] or None,
            "outputFormat": prompt["outputFormat"] or ("json" if prompt["outputSchema"] else "text"),
            "outputSchema": prompt["outputSchema"],
            "maxRepairs": prompt["maxRepairs"],
            "promptName": path,
            "promptVersion": prompt["version"],
        }
        given = {name: value for name, value in arguments.items() if value is not None}
        server = Server(context.get("mcp_endpoint") or "", context.get("mcp_token"), request["requestId"])
        generated = await self._tools.call(server, GENERATE, given, emit)
        if "output" not in generated:
            raise Failure(failure.LLM_UNAVAILABLE, f"{GENERATE}: its result has no output")
        return generated


def _variables(request: dict[str, Any]) -> dict[str, Any]:
    """What the templates of a component see; `uhlp_state.checks.prompts` names them at push."""
    data, context = request["requestData"], request["context"]
    # Not the request's id: its client may have chosen it, and no two requests would make the same prompt.
    told = ("appId", "componentId", "deployment")
    http = data.get("httpDetails")
    return {
        "input": http.get("json") if http else (data.get("internalDetails") or {}).get("input"),
        "httpDetails": http,
        "config": context.get("configuration") or {},
        "context": {name: context.get(name) for name in told},
    }


def _version(prompt: dict[str, Any]) -> str:
    """Names the prompt's content, whatever commit it is in."""
    return hashlib.sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()[:12]


def _metrics(generated: dict[str, Any], milliseconds: float) -> dict[str, Any]:
    usage = generated.get("usage") or {}
    call = {
        "tool": GENERATE,
        "count": 1,
        "total_duration_ms": round(milliseconds, 3),
        "token_usage": {"prompt": usage.get("inputTokens"), "completion": usage.get("outputTokens")},
    }
    told = {name: generated[name] for name in _TOLD if name in generated}
    return {"execution_time_ms": round(milliseconds, 3), "mcp_calls": [call], "llm": told}
