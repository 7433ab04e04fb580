"""Policies of the app: no more patterns than are matched in time."""

from __future__ import annotations

from uhlp_state.checks.parts import Files
from uhlp_state.model import Policy
from uhlp_state.model.policies import MAX_PATTERNS
from uhlp_state.platform import PlatformDefinition
from uhlp_state.problems import Code

POLICIES = "state/policies/"


def check_policies(files: Files, platform: PlatformDefinition) -> dict[str, Policy]:
    """Check every policy file; the policies that hold for the app, by name, in the order they are asked."""
    found = {f"platform/{name}": policy for name, policy in platform.policies.items()}
    patterns = 0
    for path in sorted(files.under(POLICIES, ".yaml")):
        if part := files.model(path, Policy):
            found[path.removeprefix(POLICIES).removesuffix(".yaml")] = part.model
            patterns += part.model.pattern_count
            if patterns > MAX_PATTERNS >= patterns - part.model.pattern_count:
                message = f"with this policy the app has more than {MAX_PATTERNS} regular expressions"
                remedy = "join some with `|`, or remove them"
                files.problems.append(
                    part.problem(("rules",), Code.QUOTA_EXCEEDED, message, remedy, key=True)
                )
    return found
