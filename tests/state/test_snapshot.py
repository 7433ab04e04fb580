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


@pytest.fixture
def snapshot():
    source = app(
        {
            "state/app_definition.yaml": CONFIGURED,
            "state/component_registry.yaml": OVERRIDDEN,
            "state/security_config.yaml": "userRoles: {admin: {permissions: [write]}}",
            "state/optimization_config.yaml": "rules: [{condition: {expression: x > 1}, action: recommend_jit}]",
            "state/schemas/deep/note.json": '{"type": "object", "title": null}',
            "state/ui/index.html": "<p>",
            "state/ui/css/style.css": "",
            "README.md": "",
        }
    )
    return validate(source, "demo", commit="c1", tree="t1").snapshot


def test_what_it_holds(snapshot):
    assert (snapshot.app, snapshot.commit, snapshot.tree, snapshot.files) == ("demo", "c1", "t1", 10)
    assert list(snapshot.pools) == ["python"]
    assert snapshot.schemas == {"schemas/deep/note.json": {"type": "object", "title": None}}
    assert snapshot.ui == {
        "index.html": UiFile("83b33d238dab1feed355d0dc1ad6e9d8c1d48fde", 3),
        "css/style.css": UiFile("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", 0),
    }


def test_the_way_through_json_changes_nothing(snapshot):
    plain = snapshot.to_json()
    assert list(plain) == [
        "app", "commit", "tree", "definition", "components", "security", "optimization", "schemas", "ui", "files",
    ]  # fmt: skip
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
