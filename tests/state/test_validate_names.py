"""Names of components in policies, and of permissions on routes, that can only be slips."""

import pytest

from state.apps import REGISTRY, app, places
from uhlp_state.validate import validate

REGISTRY_FILE = "state/component_registry.yaml"
POLICY_FILE = "state/policies/p.yaml"
HASH = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQxMjM0$" + "A" * 43


def problems_of(changes):
    return validate(app(changes), "demo").problems


def policy(components):
    return {POLICY_FILE: f"rules: [{{id: a, events: [tool.call], action: DENY, components: {components}}}]\n"}


def guarded(permissions, *held):
    """Routes that ask for `permissions`, and one key for each of `held`."""
    components = "".join(
        REGISTRY.removeprefix("components:\n")
        .replace("componentId: hello", f"componentId: c{index}")
        .replace("/hello/:name", f"/{index}")
        .replace("methods: [GET]", f"permission: {permission}")
        for index, permission in enumerate(permissions)
    )
    keys = ", ".join(f"{{keyHash: '{HASH}', permissions: [{permission}]}}" for permission in held)
    return {
        REGISTRY_FILE: f"components:\n{components}",
        "state/security_config.yaml": f"apiKeys: [{keys}]",
    }


def test_a_rule_about_a_component_that_is_not_there_is_a_problem():
    near, far = problems_of(policy("[helo, hello, nobody]"))
    assert places((near, far)) == [
        (POLICY_FILE, 1, 65, "UNKNOWN_COMPONENT"),
        (POLICY_FILE, 1, 78, "UNKNOWN_COMPONENT"),
    ]
    assert near.message == "there is no component 'helo'"
    assert near.remedy == "did you mean 'hello'?"
    assert far.remedy == "correct the name, or remove it"


@pytest.mark.parametrize("components", ["[hello]", "['*']", "['admin.*']", "[hell?]"])
def test_a_rule_about_components_that_are_there_or_may_come_is_valid(components):
    assert problems_of(policy(components)) == ()


def test_what_is_not_known_of_a_broken_registry_is_no_problem_of_a_policy():
    found = problems_of({REGISTRY_FILE: "components: 1", **policy("[x]")})
    assert places(found) == [(REGISTRY_FILE, 1, 13, "WRONG_TYPE")]


def test_a_misspelt_permission_is_a_problem():
    (problem,) = problems_of(guarded(["ordrs"], "orders", "mcp"))
    assert places((problem,)) == [(REGISTRY_FILE, 10, 19, "UNKNOWN_PERMISSION")]
    assert problem.message == "no API key has the permission 'ordrs'"
    assert problem.remedy == "did you mean 'orders'?"


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        (["orders"], ["orders"]),
        (["orders"], []),
        (["orders"], ["mcp"]),  # The key that had it was revoked.
        (["report-2025", "report-2026"], ["report-2026"]),
    ],
)
def test_a_permission_that_may_be_meant_is_valid(asked, held):
    assert problems_of(guarded(asked, *held)) == ()
