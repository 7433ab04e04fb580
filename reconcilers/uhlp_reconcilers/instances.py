"""One running sandbox as the sandboxes daemon holds it: start it, see that it is ready, load a revision.

Speaks with the runner inside; knows nothing of what is wanted.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from uhlp_reconcilers.backends.protocol import Instance
from uhlp_reconcilers.outcome import Retry
from uhlp_reconcilers.runner_client import RunnerUnreachable, ask
from uhlp_state.documents import InstanceDoc, Lane
from uhlp_state.model import ComponentDefinition, HandlerType
from uhlp_state.snapshot import AppSnapshot

START_SECONDS = 20.0
"""A runner is ready in about 0.1 s; a machine under heavy load may need far longer."""

ADOPT_SECONDS = 3.0
"""A runner that has been up for a while answers at once, or not at all."""

PREPARE_SECONDS = 60.0
"""Importing a revision's handlers; large libraries take seconds, a hanging import must end."""

HEALTH_SECONDS = 2.0
READY_POLL = 0.005


class RevisionRefused(Exception):
    """A revision's handlers cannot be loaded; the text names script, line and cause."""


@dataclass(slots=True)
class Held:
    """An instance with what its runner told about itself."""

    instance: Instance
    state: Literal["starting", "ready", "draining"] = "starting"
    standby: bool = False
    """Whether it only waits to take a place among those that serve."""
    lanes: tuple[Lane, ...] = ()
    prepared: tuple[str, ...] = ()
    restarts: int = 0
    last_exit: str | None = None
    """Why the instance before it, in its pool, ended though it was wanted."""
    missed: int = 0
    """Health checks in a row without an answer."""
    died: bool = False
    """Whether it ended by itself."""
    removing: bool = False

    @property
    def socket(self) -> Path:
        return self.instance.dir / "execute.sock"

    def doc(self) -> InstanceDoc:
        instance = self.instance
        return InstanceDoc(
            instance=instance.instance,
            deployment=instance.deployment,
            pool=instance.pool,
            spec=instance.spec,
            backend=instance.backend,
            state="standby" if self.standby and self.state != "draining" else self.state,
            dir=str(instance.dir),
            lanes=self.lanes,
            prepared=self.prepared,
            pid=instance.pid,
            started_at=instance.started_at,
            restarts=self.restarts,
            container=instance.container,
            is_outdated=instance.is_outdated,
            last_exit=self.last_exit,
        )


async def become_ready(held: Held) -> None:
    """Wait for the runner's readiness and take over its lanes and loaded revisions. Raises Retry.

    An instance that was started long ago (by an earlier daemon) must answer soon.
    """
    age = time.time() - held.instance.started_at
    deadline = asyncio.get_running_loop().time() + max(ADOPT_SECONDS, START_SECONDS - age)
    problem = "no answer yet"
    while asyncio.get_running_loop().time() < deadline:
        try:
            status, answer = await ask(held.socket, "GET", "/readyz", timeout=HEALTH_SECONDS)
        except RunnerUnreachable as error:
            problem = str(error)
        else:
            if status == 200:
                # The runner names its sockets within its folder, which it may see under another path.
                held.lanes = tuple(
                    Lane(
                        str(held.instance.dir / lane["socket"]),
                        lane["capacity"],
                        HandlerType(lane["serves"]),
                    )
                    for lane in answer["lanes"]
                )
                held.prepared = tuple(answer["prepared"])
                held.state = "ready"
                return
            problem = f"/readyz answered {status}"
        if not held.instance.alive:
            problem = "it ended while starting; see `uhlp logs`"
            break
        await asyncio.sleep(READY_POLL)
    raise Retry("InstanceNotReady", f"{held.instance.instance} of pool {held.instance.pool}: {problem}")


async def prepare(held: Held, snapshot: AppSnapshot) -> None:
    """Have the runner import a revision's handlers and read its prompts.

    Raises RevisionRefused, or Retry without an answer.
    """
    if snapshot.tree in held.prepared:
        return
    own = [each for each in snapshot.components if each.target_pool_name == held.instance.pool]
    components = [
        {
            "componentId": component.component_id,
            "script": component.task_details["script"],
            "function": component.task_details["function"],
        }
        for component in own
        if component.handler_type is HandlerType.JIT
    ]
    prompts = [
        _with_prompt(component, snapshot) for component in own if component.handler_type is HandlerType.LLM
    ]
    body = {"tree": snapshot.tree, "components": components, "prompts": prompts}
    try:
        status, answer = await ask(held.socket, "POST", "/prepare", body, timeout=PREPARE_SECONDS)
    except RunnerUnreachable as error:
        raise Retry("PrepareFailed", f"{held.instance.instance}: {error}") from None
    if status == 200:
        if snapshot.tree not in held.prepared:  # Somebody else may have asked for it meanwhile.
            held.prepared = (*held.prepared, snapshot.tree)
    elif status == 422:
        details = answer.get("details") or [{}]
        first = details[0]
        raise RevisionRefused(
            f"state/{first.get('script')}:{first.get('line')}: {first.get('message')} "
            f"(component {first.get('componentId')})"
        )
    else:
        raise Retry("PrepareFailed", f"{held.instance.instance}: /prepare answered {status}")


def _with_prompt(component: ComponentDefinition, snapshot: AppSnapshot) -> dict[str, Any]:
    path = component.task_details["prompt_template"]
    return {
        "componentId": component.component_id,
        "path": path,
        "prompt": snapshot.prompts[path].to_json(),
    }


async def is_healthy(held: Held) -> bool:
    """Whether the runner still answers."""
    try:
        status, _ = await ask(held.socket, "GET", "/healthz", timeout=HEALTH_SECONDS)
    except RunnerUnreachable:
        return False
    return status == 200
