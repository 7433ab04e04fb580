"""The snapshot: what it holds, and that it survives the way through JSON."""

import orjson
import pytest

from state.apps import DEFINITION, REGISTRY, app
from uhlp_state.snapshot import AppSnapshot, UiFile
from uhlp_state.validate import validate

CONFIGURED = DEFINITION.replace(
    "  greeting: hello\n",
    "  greeting: hello\n  nothing: null\n  llm: {provider: scripted, limits: {tokens: 10}}\n",
)
OVERRIDDEN = REGISTRY + (
    "    requestSchema: schemas/deep/note.json\n"
    "    configurationOverrides: {greeting: [hi], llm: {limits: {seconds: 5}}, nothing: {a: 1}}\n"
)


RULES = "rules: [{condition: {expression: x > 1}, action: recommend_jit}]"


@pytest.fixture
def snapshot():
    source = app(
        {
            "state/app_definition.yaml": CONFIGURED,
            "state/component_registry.yaml": OVERRIDDEN,
            "state/security_config.yaml": "userRoles: {admin: {permissions: [write]}}",
            "state/optimization_config.yaml": RULES,
            "state/prompts/sum.yaml": "template: '{{ input }}'\nexamples: [{input: {input: a}, output: b}]",
            "state/schemas/deep/note.json": '{"type": "object", "default": null}',
            "state/tools/greet.yaml": "{name: greet, description: Says hello., component: hello}",
            "state/tools/ask.yaml": "{name: app.ask, description: Asks., component: hello}",
            "state/ui/index.html": "<p>",
            "state/ui/css/style.css": "",
            "README.md": "",
        }
    )
    return validate(source, "demo", commit="c1", tree="t1").snapshot


def test_what_it_holds(snapshot):
    assert (snapshot.app, snapshot.commit, snapshot.tree, snapshot.files) == ("demo", "c1", "t1", 12)
    assert [tool.full_name for tool in snapshot.tools] == ["app.ask", "app.greet"]
    assert list(snapshot.pools) == ["python"]
    assert snapshot.schemas == {"schemas/deep/note.json": {"type": "object", "default": None}}
    assert snapshot.prompts["prompts/sum.yaml"].examples[0].output == "b"
    assert snapshot.ui == {
        "index.html": UiFile("8caaf90f826ad377e458ecf21d6a33d1b78520a9", 3),
        "css/style.css": UiFile("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", 0),
    }


def test_the_way_through_json_changes_nothing(snapshot):
    plain = snapshot.to_json()
    keys = "app commit tree definition components security optimization schemas prompts ui"
    more = "shippedPolicies policies tools mcpPrograms mcpPins files environments"
    assert list(plain) == [*keys.split(), *more.split()]
    again = AppSnapshot.from_json(orjson.loads(orjson.dumps(plain)))
    assert again == snapshot
    assert again.to_json() == plain
    assert again.pools["python"].spec_hash() == snapshot.pools["python"].spec_hash()


def test_a_components_configuration_goes_over_the_apps(snapshot):
    assert snapshot.component_configuration("hello") == {
        "greeting": ["hi"],
        "nothing": {"a": 1},
        "llm": {"provider": "scripted", "limits": {"tokens": 10, "seconds": 5}},
    }
    assert snapshot.definition.configuration["llm"] == {"provider": "scripted", "limits": {"tokens": 10}}
    with pytest.raises(KeyError):
        snapshot.component_configuration("nope")
