"""Policies of the app: rules about components that exist, and no more patterns than are matched in time."""

from __future__ import annotations

from collections.abc import Collection

from uhlp_state.checks.parts import Files, Part
from uhlp_state.model import Policy
from uhlp_state.model.policies import MAX_PATTERNS
from uhlp_state.platform import PlatformDefinition
from uhlp_state.problems import Code, did_you_mean, quoted

POLICIES = "state/policies/"

_WILD = frozenset("*?[")
"""What makes a name stand for many, of which there need not be one yet."""


def check_policies(
    files: Files, platform: PlatformDefinition, components: Collection[str] | None
) -> dict[str, Policy]:
    """Check every policy file; the policies that hold for the app, by name, in the order they are asked.

    `components` is None where they could not be read.
    """
    found = {f"platform/{name}": policy for name, policy in platform.policies.items()}
    patterns = 0
    for path in sorted(files.under(POLICIES, ".yaml")):
        if part := files.model(path, Policy):
            found[path.removeprefix(POLICIES).removesuffix(".yaml")] = part.model
            if components is not None:
                _check_components(files, part, components)
            patterns += part.model.pattern_count
            if patterns > MAX_PATTERNS >= patterns - part.model.pattern_count:
                message = f"with this policy the app has more than {MAX_PATTERNS} regular expressions"
                remedy = "join some with `|`, or remove them"
                files.problems.append(
                    part.problem(("rules",), Code.QUOTA_EXCEEDED, message, remedy, key=True)
                )
    return found


def _check_components(files: Files, part: Part[Policy], components: Collection[str]) -> None:
    """A rule about a component that is not there would never match, and so never deny."""
    for index, rule in enumerate(part.model.rules):
        for position, name in enumerate(rule.components):
            if name not in components and _WILD.isdisjoint(name):
                message = f"there is no component {quoted(name)}"
                remedy = did_you_mean(name, components, "correct the name, or remove it")
                place = ("rules", index, "components", position)
                files.problems.append(part.problem(place, Code.UNKNOWN_COMPONENT, message, remedy))
