"""A definition that would never be read because of its name is a problem: such a policy denies nothing."""

import pytest

from state.apps import DEFINITION, MODEL, REGISTRY, app, places, tree
from uhlp_state.platform import validate_platform
from uhlp_state.validate import validate

DENY = "rules: [{id: block, events: [tool.call], action: DENY}]"
TOOL = "{name: greet, description: Says hello., component: hello}"
PROMPT = "template: hi"


def problems_of(changes):
    return validate(app(changes), "demo").problems


@pytest.mark.parametrize(
    ("path", "content", "remedy"),
    [
        ("state/policies/block.yml", DENY, "name it 'block.yaml'"),
        ("state/policies/block.YAML", DENY, "name it 'block.yaml'"),
        ("state/policies/team/block.yml", DENY, "name it 'block.yaml'"),
        ("state/policies/block.json", "{}", "name it 'block.yaml'"),
        ("state/policy/block.yaml", DENY, "did you mean 'state/policies/block.yaml'?"),
        ("state/policy/block.yml", DENY, "did you mean 'state/policies/block.yaml'?"),
        ("state/Policies/block.yaml", DENY, "did you mean 'state/policies/block.yaml'?"),
        ("state/polices/block.yaml", DENY, "did you mean 'state/policies/block.yaml'?"),
        ("state/tools/greet.yml", TOOL, "name it 'greet.yaml'"),
        ("state/tool/greet.yaml", TOOL, "did you mean 'state/tools/greet.yaml'?"),
        ("state/prompts/sum.yml", PROMPT, "name it 'sum.yaml'"),
        ("state/prompt/sum.yaml", PROMPT, "did you mean 'state/prompts/sum.yaml'?"),
        ("state/workflows/w.yml", "{}", "name it 'w.yaml'"),
        ("state/mcp_pins/clock.JSON", "{}", "name it 'clock.json'"),
        ("state/mcp-pins/clock.json", "{}", "did you mean 'state/mcp_pins/clock.json'?"),
        ("state/security_config.yml", "{}", "name it 'security_config.yaml'"),
        ("state/security-config.yaml", "{}", "name it 'security_config.yaml'"),
        ("state/optimization_config.json", "{}", "name it 'optimization_config.yaml'"),
    ],
)
def test_a_definition_that_is_never_read_is_a_problem(path, content, remedy):
    found = problems_of({path: content})
    assert places(found) == [(path, 1, 1, "FILE_NOT_READ")]
    assert found[0].remedy == remedy


@pytest.mark.parametrize(
    ("right", "wrong", "content"),
    [
        ("state/app_definition.yaml", "state/app_definition.yml", DEFINITION),
        ("state/app_definition.yaml", "state/app_defintion.yaml", DEFINITION),
        ("state/component_registry.yaml", "state/component_registry.yml", REGISTRY),
    ],
)
def test_a_file_that_every_app_needs_is_not_missing_under_a_wrong_name(right, wrong, content):
    found = problems_of({right: None, wrong: content})
    assert places(found) == [(wrong, 1, 1, "FILE_NOT_READ")]
    assert found[0].remedy == f"name it '{right.removeprefix('state/')}'"


def test_two_spellings_of_one_file_are_to_be_joined():
    (problem,) = problems_of({"state/policies/a.yaml": DENY, "state/policies/a.yml": DENY})
    assert problem.file == "state/policies/a.yml"
    assert problem.remedy == (
        "there is 'state/policies/a.yaml' already: put what is here into that file, and remove this one"
    )


def test_what_an_app_keeps_for_itself_may_be_called_as_it_likes():
    own = [
        "policies/block.yml",
        "state/_jit_code/hello/v1/tools.yml",
        "state/data/policies/block.yml",
        "state/fixtures/orders.yml",
        "state/llm/answers.yml",
        "state/notes.yml",
        "state/policies/README.md",
        "state/pools/a.yaml",
        "state/prompts/examples.json",
        "state/templates/mail.yml",
        "state/tools/README.md",
        "state/tools/arguments.json",
        "state/ui/policies/block.yml",
        "tests/tools/greet.yml",
    ]
    assert problems_of(dict.fromkeys(own, "{}")) == ()


def test_a_prompt_whose_name_ends_wrongly_is_not_said_to_be_missing():
    registry = (
        "components:\n  - componentId: a\n    handlerType: LLM\n    targetPoolName: python\n"
        "    taskDetails: {prompt_template: prompts/sum.yml}\n"
    )
    changes = {
        "state/app_definition.yaml": DEFINITION + MODEL,
        "state/component_registry.yaml": registry,
        "state/prompts/sum.yml": PROMPT,
    }
    reference, file = problems_of(changes)
    assert (reference.code, reference.line, reference.message) == (
        "UNKNOWN_PROMPT",
        5,
        "the name of 'state/prompts/sum.yml' does not end in .yaml",
    )
    assert (file.code, file.file) == ("FILE_NOT_READ", "state/prompts/sum.yml")


@pytest.mark.parametrize("path", ["state/platform.yml", "state/Platform.yaml", "state/policies/block.yaml"])
def test_a_rule_of_the_platform_that_is_never_read_is_a_problem(path):
    definition, problems = validate_platform(tree({path: "{}"}))
    assert definition is None
    assert places(problems) == [(path, 1, 1, "FILE_NOT_READ")]
