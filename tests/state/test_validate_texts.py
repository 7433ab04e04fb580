"""What a problem says: it names the thing that is wrong, and what to write instead."""

import pytest

from state.apps import DEFINITION, REGISTRY, app
from uhlp_state.validate import validate

APP_FILE = "state/app_definition.yaml"
REGISTRY_FILE = "state/component_registry.yaml"
PROMPT_FILE = "state/prompts/p.yaml"
PROMPT = "template: hi\noutputSchema: {required: [summary], properties: {summary: {type: string}}}\n"
SCHEMA_FILE = "state/schemas/s.json"
LONG = "x" * 500
POLICY_FILE = "state/policies/p.yaml"


def told(changes):
    """The text of the only problem."""
    (problem,) = validate(app(changes), "demo").problems
    return problem.format()


def definition(text):
    return {APP_FILE: DEFINITION + text}


@pytest.mark.parametrize(
    ("path", "guess"),
    [
        ("/usr/bin/python3", ""),
        ("/usr/bin/nonsense", ""),
        ("/usr/bin/awk", "did you mean '/usr/bin/gawk'? Else "),
        ("/bin/jq", "did you mean '/usr/bin/jq'? Else "),
    ],
)
def test_a_program_is_guessed_only_by_its_own_name(path, guess):
    assert told(definition(f"commands:\n  allowed: [path: {path}]\n")) == (
        f"state/app_definition.yaml:9:19 COMMAND_NOT_ALLOWED the program '{path}' is not allowed on this "
        f"platform\n    fix: {guess}remove it, or have it added to allowedCommands in the platform's "
        "state/platform.yaml"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {REGISTRY_FILE: REGISTRY.removeprefix("components:\n")},
            "state/component_registry.yaml:1:3 WRONG_TYPE the file must be a mapping, got a list\n"
            "    fix: write `components:` above the list and indent it",
        ),
        (
            {APP_FILE: "appId: demo\nsandboxPools:\n  - poolName: python\n"},
            "state/app_definition.yaml:3:3 WRONG_TYPE 'sandboxPools' must be a mapping, got a list\n"
            "    fix: write `pools:` above the list and indent it",
        ),
        (
            {"state/security_config.yaml": "- keyHash: x"},
            "state/security_config.yaml:1:1 WRONG_TYPE the file must be a mapping, got a list\n"
            "    fix: write `key: value` lines below it",
        ),
        (
            definition("commands:\n  allowed: [/usr/bin/jq]\n"),
            "state/app_definition.yaml:9:13 WRONG_TYPE an item of 'allowed' must be a mapping, got a string\n"
            "    fix: write `- path: /usr/bin/jq`",
        ),
        (
            {REGISTRY_FILE: "components: [hello]"},
            "state/component_registry.yaml:1:14 WRONG_TYPE an item of 'components' must be a mapping, got a "
            "string\n    fix: write `- componentId: …`, and its other keys below",
        ),
        (
            {REGISTRY_FILE: REGISTRY.replace("[GET]", "[GET, FETCH]")},
            "state/component_registry.yaml:10:22 BAD_VALUE an item of 'methods' must be one of GET, POST, "
            "PUT, DELETE, PATCH, OPTIONS, HEAD, got 'FETCH'\n"
            "    fix: did you mean 'PATCH'?",
        ),
        (
            definition("mcpServers:\n  Clock: {command: clock}\n"),
            "state/app_definition.yaml:9:3 BAD_VALUE the name 'Clock' in 'mcpServers': string should match "
            "pattern '^[a-z][a-z0-9]*(?:[._-][a-z0-9]+)*$'\n"
            "    fix: write lower-case letters and digits, a letter first, with single `.`, `_` or `-` "
            "between",
        ),
        (
            definition(f"mcpServers:\n  {'a' * 41}: {{command: clock}}\n"),
            f"state/app_definition.yaml:9:3 BAD_VALUE the name '{'a' * 41}' in 'mcpServers': string should "
            "have at most 40 characters\n    fix: write another name",
        ),
        (
            {POLICY_FILE: "rules: [{id: A, events: [tool.call], action: DENY}]"},
            "state/policies/p.yaml:1:14 BAD_VALUE 'id': string should match pattern "
            "'^[a-z][a-z0-9-]{0,62}$'\n    fix: write lower-case letters, digits and hyphens, "
            "a letter first, at most 63 characters",
        ),
        (
            {"state/security_config.yaml": "apiKeys: [{keyHash: a-key}]"},
            "state/security_config.yaml:1:21 BAD_KEY_HASH 'keyHash' is not an Argon2 hash "
            "($argon2id$v=19$m=…,t=…,p=…$salt$hash)\n    fix: make a key with `uhlp key`, and write the "
            "keyHash that it prints; replace a key that was pushed",
        ),
        (
            {PROMPT_FILE: PROMPT + "examples: [{input: {}, output: {sumary: x}}]\n"},
            "state/prompts/p.yaml:3:32 EXAMPLE_INVALID the output does not fit the prompt's outputSchema: "
            "'summary' is a required property\n    fix: correct the example or the schema",
        ),
        (
            {
                PROMPT_FILE: PROMPT
                + f"examples: [{{input: {{}}, output: {{summary: [{'1' * 18}, {LONG}]}}}}]\n"
            },
            "state/prompts/p.yaml:3:42 EXAMPLE_INVALID the output does not fit the prompt's outputSchema: "
            f"[{'1' * 18}, '{'x' * 37}… is not of type 'string'\n    fix: correct the example or the schema",
        ),
        (
            {SCHEMA_FILE: '{"required": "title"}'},
            "state/schemas/s.json:1:14 SCHEMA_INVALID this is not JSON Schema: 'title' is not of type 'array'"
            "\n    fix: correct the schema here",
        ),
        (
            {SCHEMA_FILE: f'{{"required": "{LONG}"}}'},
            f"state/schemas/s.json:1:14 SCHEMA_INVALID this is not JSON Schema: '{'x' * 59}…' is not of type "
            "'array'\n    fix: correct the schema here",
        ),
        (
            {SCHEMA_FILE: f'{{"required": ["{LONG}", "{LONG}"]}}'},
            f"state/schemas/s.json:1:14 SCHEMA_INVALID this is not JSON Schema: ['{'x' * 57}… has non-unique "
            "elements\n    fix: correct the schema here",
        ),
        (
            {REGISTRY_FILE: "components"},
            "state/component_registry.yaml:1:1 WRONG_TYPE the file must be a mapping, got a string\n"
            "    fix: write `key: value` lines below it",
        ),
    ],
)
def test_a_value_in_the_wrong_place_or_form(changes, text):
    assert told(changes) == text
