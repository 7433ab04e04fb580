"""The schemas for editors are current, valid, and take what the validator takes."""

import orjson
import pytest
import yaml
from jsonschema import Draft202012Validator

from state.apps import DEFINITION, REGISTRY
from uhlp_state import assets
from uhlp_state.assets import assets_folder
from uhlp_state.schema_export import export_schemas, serialise

SCHEMAS = export_schemas()


def test_an_installed_package_carries_its_assets(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "__file__", str(tmp_path / "assets.py"))
    assert assets_folder("schemas") == tmp_path.parent / "schemas"
    (tmp_path / "_assets/schemas").mkdir(parents=True)
    assert assets_folder("schemas") == tmp_path / "_assets/schemas"


def test_the_files_are_those_of_the_model():
    on_disk = {path.name: path.read_bytes() for path in assets_folder("schemas").glob("*.schema.json")}
    assert on_disk == {name: serialise(schema) for name, schema in SCHEMAS.items()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_valid_and_explains_each_key(name):
    schema = orjson.loads(serialise(SCHEMAS[name]))
    Draft202012Validator.check_schema(schema)
    models = [schema, *schema.get("$defs", {}).values()]
    for model in models:
        for key, field in model.get("properties", {}).items():
            assert field.get("description"), f"{model['title']}.{key}"


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("app_definition", DEFINITION, True),
        ("app_definition", DEFINITION + "maxBodyByte: 1", False),
        ("component_registry", REGISTRY, True),
        ("component_registry", REGISTRY.replace("JIT", "jit"), True),
        ("component_registry", REGISTRY.replace("JIT", "JAT"), False),
        ("optimization_config", "rules: [{condition: {expression: x}, action: ACTION_TRIGGER_JIT}]", True),
        ("platform", "quotas: {maxApps: 3}", True),
        ("workflow", "workflowId: a\ntrigger: {type: http}\nstartAt: b\nsteps: {b: {type: jit}}", True),
        ("prompt", "template: hi", True),
        ("prompt", "templat: hi", False),
        ("tool", "{name: app.greet, description: x, component: hello}", True),
        ("tool", "{name: a b, description: x, component: hello}", False),
    ],
)
def test_an_editor_says_what_the_validator_says(name, text, valid):
    validator = Draft202012Validator(SCHEMAS[f"{name}.schema.json"])
    assert validator.is_valid(yaml.safe_load(text)) is valid
