"""An app's `llm` and the rules of scripted providers: each mistake is its problem, at its place."""

import pytest

from state.apps import DEFINITION, MODEL, REGISTRY, app, places
from uhlp_state.model import LlmConfig
from uhlp_state.validate import validate

APP_FILE = "state/app_definition.yaml"
RULES_FILE = "state/llm/rules.yaml"
LLM = """\
llm:
  providers:
    main: {type: openai, apiKey: "secret:openai"}
    script: {type: scripted, file: llm/rules.yaml}
  model: main/gpt-4o-mini
  fallbacks: [script/any]
  parameters: {temperature: 0.2}
  budgets:
    - {per: app, usd: 5.0}
    - {per: user, tokens: 1000}
"""
RULES = """\
rules:
  - match: {regex: "name is (?P<name>\\\\w+)"}
    replies:
      - text: "Hi {{name}}"
      - {fail: rateLimited, retryAfterSeconds: 1.5}
  - replies:
      - json: null
"""


def problems(llm=LLM, rules=RULES):
    return validate(app({APP_FILE: DEFINITION + llm, RULES_FILE: rules}), "demo").problems


def test_a_whole_configuration_is_valid():
    assert problems() == ()


@pytest.mark.parametrize(("llm", "codes"), [("", ["LLM_NOT_CONFIGURED"]), (MODEL, [])])
def test_who_asks_a_model_must_name_one(llm, codes):
    ask = (
        "  - {componentId: ask, handlerType: LLM, targetPoolName: python, "
        "taskDetails: {prompt_template: prompts/p.yaml}}\n"
    )
    changes = {
        APP_FILE: DEFINITION + llm,
        "state/component_registry.yaml": REGISTRY + ask,
        "state/prompts/p.yaml": "template: hi",
    }
    found = validate(app(changes), "demo").problems
    assert places(found) == [("state/component_registry.yaml", 11, 37, code) for code in codes]


def test_it_survives_the_way_through_redis():
    snapshot = validate(app({APP_FILE: DEFINITION + LLM, RULES_FILE: RULES}), "demo").snapshot
    config = snapshot.definition.llm
    assert LlmConfig.model_validate(config.to_json()) == config
    assert config.split("script/a/b") == ("script", "a/b")
    assert config.split("meta/llama") == ("main", "meta/llama")


@pytest.mark.parametrize(
    ("old", "new", "code", "place"),
    [
        ('"secret:openai"', "sk-proj-abcdef", "PLAIN_CREDENTIAL", "sk-proj"),
        ('"secret:openai"', "'secret:A B'", "PLAIN_CREDENTIAL", "'secret"),
        ('apiKey: "secret:openai"', "baseUrl: ftp://x", "BAD_URL", "ftp:"),
        ('apiKey: "secret:openai"', "baseUrl: 'https://u:p@x/'", "BAD_URL", "'https:"),
        ('apiKey: "secret:openai"', "baseUrl: 'https://x/?key=1'", "BAD_URL", "'https:"),
        ('apiKey: "secret:openai"', "baseUrl: 'https://x/v1?'", "BAD_URL", "'https:"),
        ('apiKey: "secret:openai"', "baseUrl: 'https://x/v1#'", "BAD_URL", "'https:"),
        ('apiKey: "secret:openai"', "baseUrl: http://8.8.8.8/v1", "BAD_URL", "http:"),
        ('apiKey: "secret:openai"', "file: llm/rules.yaml", "BAD_VALUE", "{type: openai"),
        ('apiKey: "secret:openai"', "optional: true", "BAD_VALUE", "{type: openai"),
        ("file: llm/rules.yaml", "baseUrl: 'https://x'", "BAD_VALUE", "{type: scripted"),
        ("file: llm/rules.yaml", "file: llm/absent.yaml", "UNKNOWN_RULES", "llm/absent"),
        ("file: llm/rules.yaml", "file: ../x.yaml", "PATH_ESCAPE", "../x"),
        ("main/gpt-4o-mini", "mian/gpt-4o-mini", "UNKNOWN_PROVIDER", "mian"),
        ("[script/any]", "[scrip/any]", "UNKNOWN_PROVIDER", "scrip/"),
        ("temperature", "temprature", "BAD_VALUE", "{temprature"),
        ("temperature: 0.2", "max_tokens: 0", "BAD_VALUE", "{max_tokens"),
        ("usd: 5.0", "", "BAD_VALUE", "{per: app, }"),
        ("per: user", "per: team", "BAD_VALUE", "team"),
        ("type: openai", "type: opneai", "BAD_VALUE", "opneai"),
    ],
)
def test_each_mistake_is_found_at_its_place(old, new, code, place):
    broken = (DEFINITION + LLM).replace(old, new)
    found = validate(app({APP_FILE: broken, RULES_FILE: RULES}), "demo").problems
    assert places(found) == [(APP_FILE, *_position(broken, place), code)]
    assert "sk-proj" not in found[0].format()
    assert "u:p" not in found[0].format()


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("gpt-4o-mini", []),
        ("script/any", []),
        ("mian/gpt", [("state/prompts/p.yaml", 2, 8, "UNKNOWN_PROVIDER")]),
    ],
)
def test_a_prompts_model_is_of_a_provider_that_there_is(model, found):
    prompt = f"template: hi\nmodel: {model}\n"
    files = {APP_FILE: DEFINITION + LLM, RULES_FILE: RULES, "state/prompts/p.yaml": prompt}
    assert places(validate(app(files), "demo").problems) == found
    without_llm = {"state/prompts/p.yaml": prompt}
    assert validate(app(without_llm), "demo").problems == ()


@pytest.mark.parametrize(
    ("old", "new", "code", "place"),
    [
        ("(?P<name>", "(?P<name", "BAD_PATTERN", '"name is'),
        ('- text: "Hi {{name}}"', "- {text: a, json: b}", "BAD_VALUE", "{text"),
        ("rateLimited", "rateLimitd", "BAD_VALUE", "rateLimitd"),
        ("json: null", "jsn: null", "UNKNOWN_KEY", "jsn"),
    ],
)
def test_each_mistake_in_rules_is_found_at_its_place(old, new, code, place):
    broken = RULES.replace(old, new)
    found = problems(rules=broken)
    assert (RULES_FILE, *_position(broken, place), code) in places(found)


def _position(text, part):
    before = text[: text.index(part)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
