"""Routes: no two components may answer the same path and method, and permissions are spelt as in keys."""

from __future__ import annotations

from uhlp_state.checks.parts import Files, Part
from uhlp_state.model import ComponentRegistry, SecurityConfig
from uhlp_state.problems import NEARLY, Code, closest, quoted
from uhlp_state.routes import RoutePattern, effective_methods
from uhlp_state.yaml_source import YamlPath


def check_routes(files: Files, registry: Part[ComponentRegistry]) -> None:
    """Report each route that takes what an earlier one takes, and name both places."""
    first: dict[tuple[tuple[str, ...], str], tuple[str, str, int]] = {}
    for index, component in enumerate(registry.model.components):
        route = component.route_matcher
        if route is None:
            continue
        place: YamlPath = ("components", index, "routeMatcher", "pathPattern")
        shape = RoutePattern.parse(route.path_pattern).shape
        clashes: dict[tuple[str, str, int], list[str]] = {}
        mine = (component.component_id, route.path_pattern, registry.line(place))
        for method in dict.fromkeys(effective_methods(route.methods)):
            other = first.setdefault((shape, method), mine)
            if other is not mine:
                clashes.setdefault(other, []).append(method)
        for (other_id, pattern, line), methods in clashes.items():
            message = (
                f"{', '.join(methods)} {quoted(route.path_pattern)} takes the same requests as "
                f"{quoted(pattern)} of component {quoted(other_id)} ({registry.file}:{line})"
            )
            remedy = "change one of the patterns, or its methods"
            files.problems.append(registry.problem(place, Code.ROUTE_CONFLICT, message, remedy))


def check_permissions(files: Files, registry: Part[ComponentRegistry], security: SecurityConfig) -> None:
    """Report permissions that no key has and that are nearly ones that keys have, but no route asks for.

    A permission that no key has is no mistake as such: the last key that had it may have been revoked.
    """
    components = registry.model.components
    asked = {component.route_matcher.permission for component in components if component.route_matcher}
    held = {permission for key in security.api_keys for permission in key.permissions}
    for index, component in enumerate(components):
        wanted = component.route_matcher.permission if component.route_matcher else None
        if wanted is None or wanted in held:
            continue
        if close := closest(wanted, held - asked, NEARLY):
            place = ("components", index, "routeMatcher", "permission")
            message = f"no API key has the permission {quoted(wanted)}"
            remedy = f"did you mean {quoted(close)}?"
            files.problems.append(registry.problem(place, Code.UNKNOWN_PERMISSION, message, remedy))
