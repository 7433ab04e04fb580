"""The audit log of an app: one JSON line for each decision of a policy, without what it was about."""

from __future__ import annotations

import time
from pathlib import Path

import orjson

from uhlp_core.app_log import append
from uhlp_policies.chain import Decision
from uhlp_state.model.policies import PolicyEvent

FILE = "audit.log"
"""Beside the app's log."""


def record(
    folder: Path,
    event: PolicyEvent,
    decision: Decision,
    *,
    deployment: str,
    instance: str,
    component: str,
    user: str,
    request_id: str,
    tool: str = "",
    model: str = "",
) -> None:
    """Append the decision; it is on its way to the disk when this returns. Raises OSError."""
    line = {
        "ts": time.time(),
        "event": event.value,
        "action": decision.action.value,
        "rule": decision.rule,
        "redactions": dict(decision.redactions),
        "tool": tool,
        "model": model,
        "deployment": deployment,
        "instance": instance,
        "component": component,
        "user": user,
        "requestId": request_id,
    }
    append(folder / FILE, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
