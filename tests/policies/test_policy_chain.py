"""Policies: what rules allow, deny and redact, in which order, and that an app cannot undo the platform's."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.apps import app
from uhlp_policies import audit
from uhlp_policies.chain import PolicyChain, PolicyDenied, PolicyUnusable
from uhlp_policies.shipped import shipped_policy
from uhlp_state.model import policies as model_policies
from uhlp_state.model.policies import MAX_PATTERNS, Policy, PolicyAction, PolicyEvent, ShippedPolicy
from uhlp_state.platform import PLATFORM_FILE, PlatformDefinition, validate_platform
from uhlp_state.problems import Code
from uhlp_state.snapshot import AppSnapshot
from uhlp_state.validate import validate

CALL, RESULT = PolicyEvent.TOOL_CALL, PolicyEvent.TOOL_RESULT
ASK, ANSWER = PolicyEvent.LLM_REQUEST, PolicyEvent.LLM_RESPONSE
ALLOW, DENY, REDACT = PolicyAction.ALLOW, PolicyAction.DENY, PolicyAction.REDACT


def chain(*policies: dict) -> PolicyChain:
    return PolicyChain(
        (f"p{number}", Policy.model_validate(policy)) for number, policy in enumerate(policies)
    )


def rule(action: str, on: str = "tool.call", **more: object) -> dict:
    return {"id": "r", "events": [on], "action": action, **more}


def test_nothing_is_decided_where_no_rule_concerns_the_call() -> None:
    decision = chain({"rules": [rule("DENY", tools=["core.linux.*"])]}).decide(
        CALL, {"a": 1}, tool="core.state.get"
    )
    assert (decision.action, decision.content, decision.rule) == (ALLOW, {"a": 1}, "")


def test_a_denied_call_names_the_rule_and_its_message() -> None:
    decision = chain({"rules": [rule("DENY", tools=["core.linux.*"], message="ask ops")]}).decide(
        CALL, {}, tool="core.linux.executeCommand"
    )
    assert (decision.action, decision.rule) == (DENY, "p0/r")
    with pytest.raises(PolicyDenied, match=r"^the policy p0/r refuses this: ask ops$"):
        decision.allowed()


def test_an_allow_list_of_tools_with_conditions_on_arguments() -> None:
    policy = {
        "otherTools": "DENY",
        "rules": [
            {
                "id": "jq",
                "events": ["tool.call"],
                "tools": ["core.linux.executeCommand"],
                "when": [
                    {"argument": "command", "oneOf": ["/usr/bin/jq"]},
                    {"argument": "args.0", "matches": "^[.a-z]+$"},
                    {"argument": "timeout", "atLeast": 1, "atMost": 10},
                    {"argument": "stdin.secret", "equals": True, "negate": True},
                ],
                "action": "ALLOW",
            }
        ],
    }
    decide = chain(policy).decide
    good = {"command": "/usr/bin/jq", "args": [".a"], "timeout": 5}

    def action(changes: dict, tool: str = "core.linux.executeCommand") -> PolicyAction:
        return decide(CALL, {**good, **changes}, tool=tool).action

    assert action({}) == ALLOW
    assert action({}, tool="core.state.getRuntimeValue") == DENY
    for changes in (
        {"command": "/usr/bin/curl"},
        {"args": [".a; rm"]},
        {"args": []},
        {"args": ".a"},
        {"timeout": 0},
        {"timeout": 11},
        {"timeout": True},
        {"timeout": "5"},
        {"stdin": {"secret": True}},
    ):
        assert action(changes) == DENY, changes
    assert action({"stdin": {"secret": 1}}) == ALLOW
    # Told is which rule it was nearly, and nothing of what the call gave.
    assert decide(CALL, {"command": "/bin/private"}, tool="core.linux.executeCommand").message == (
        "the policy p0 refuses this: no rule of it allows this call of core.linux.executeCommand "
        "(`otherTools: DENY`); what these ask for does not hold: jq"
    )
    # What is not a call of a tool is no tool that nobody allowed.
    assert decide(ASK, "hello").action == ALLOW


def test_a_rule_that_allows_ends_its_own_policy_only() -> None:
    platform = {"rules": [rule("DENY", tools=["x.delete"])]}
    own = {"rules": [rule("ALLOW", tools=["x.*"]), {**rule("DENY", tools=["x.read"]), "id": "later"}]}
    decide = chain(platform, own).decide
    assert decide(CALL, {}, tool="x.read").action == ALLOW
    assert decide(CALL, {}, tool="x.delete").rule == "p0/r"
    assert chain(own, platform).decide(CALL, {}, tool="x.delete").action == DENY


def test_rules_concern_components_by_name_and_calls_from_outside_as_none() -> None:
    decide = chain({"rules": [rule("DENY", components=["summ*"])]}).decide
    assert decide(CALL, {}, tool="t", component="summarise").action == DENY
    assert decide(CALL, {}, tool="t", component="other").action == ALLOW
    assert decide(CALL, {}, tool="t").action == ALLOW


def test_who_does_not_say_which_component_it_is_escapes_no_rule_for_one() -> None:
    denying = chain({"rules": [rule("DENY", components=["summ*"])]})
    assert denying.decide(CALL, {}, tool="t", component=None).action == DENY
    allowing = chain({"otherTools": "DENY", "rules": [rule("ALLOW", components=["summ*"])]})
    assert allowing.decide(CALL, {}, tool="t", component=None).action == DENY
    assert allowing.decide(CALL, {}, tool="t", component="summarise").action == ALLOW


def test_input_beyond_a_size() -> None:
    decide = chain({"rules": [rule("DENY", "llm.request", largerThan=10)]}).decide
    assert decide(ASK, [{"role": "user", "content": "ä" * 6}]).action == DENY
    assert decide(ASK, [{"role": "user", "content": "ä"}]).action == ALLOW
    assert decide(ASK, ["ä" * 5]).action == ALLOW
    assert decide(ASK, ["ä" * 5 + "b"]).action == DENY


def test_a_rule_that_denies_what_it_finds() -> None:
    decide = chain({"rules": [rule("DENY", "tool.result", detect=["card"])]}).decide
    assert decide(RESULT, {"text": "4111 1111 1111 1111"}, tool="t").action == DENY
    assert decide(RESULT, {"text": "4111 1111 1111 1112"}, tool="t").action == ALLOW


def test_redaction_goes_through_all_of_the_content_and_counts() -> None:
    policy = {
        "rules": [
            rule("REDACT", "llm.request", detect=["card", "email"]),
            {**rule("REDACT", "llm.request", patterns=["CASE-[0-9]+"]), "id": "cases"},
        ]
    }
    content = [
        {"role": "user", "content": "4111-1111-1111-1111 or ada@example.org, CASE-12 CASE-13"},
        {"deep": [{"ada@example.org": 4111111111111111, "n": 12, "ok": True, "none": None, "f": 1.5}]},
    ]
    before = json.dumps(content)
    decision = chain(policy).decide(ASK, content)
    assert decision.action == REDACT
    assert decision.content == [
        {
            "role": "user",
            "content": "[card redacted] or [email redacted], [pattern redacted] [pattern redacted]",
        },
        {"deep": [{"[email redacted]": "[card redacted]", "n": 12, "ok": True, "none": None, "f": 1.5}]},
    ]
    assert decision.redactions == {"card": 2, "email": 2, "pattern": 2}
    assert decision.rule == "p0/cases"
    assert json.dumps(content) == before


def test_what_one_rule_redacted_a_later_one_does_not_see() -> None:
    policy = {
        "rules": [
            rule("REDACT", "llm.request", detect=["key"]),
            {**rule("DENY", "llm.request", patterns=["sk-"]), "id": "deny"},
        ]
    }
    assert chain(policy).decide(ASK, "sk-abcdefghijklmnopqrstuvwx").content == "[key redacted]"
    assert chain(policy).decide(ASK, "sk-short").action == DENY


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
EVERYTHING = {"rules": [rule("REDACT", "llm.request", detect=["card", "iban", "email", "phone", "key"])]}


@given(JSON)
def test_redacting_twice_changes_nothing_more(content: object) -> None:
    decide = chain(EVERYTHING).decide
    once = decide(ASK, content)
    assert decide(ASK, once.content).content == once.content
    assert (once.action == REDACT) is bool(once.redactions)


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_secret_is_redacted_wherever_it_stands(before: str, after: str) -> None:
    secret = "AKIAIOSFODNN7EXAMPLE"
    text = f"{before} {secret} {after}"
    assert secret not in chain(EVERYTHING).decide(ASK, text).content


def shipped(name: str) -> PolicyChain:
    return PolicyChain((), [(f"shipped/{name}", shipped_policy(name))])


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("Charge 4111 1111 1111 1111 12/27 please", "Charge [card redacted] 12/27 please"),
        ("Order 7 4111 1111 1111 1111, thanks", "Order 7 [card redacted], thanks"),
        ("Order 1234567890123456789012345 is late", "Order 1234567890123456789012345 is late"),
        ("Pay ES91 2100 0418 4502 0005 1332 for Ada", "Pay [iban redacted] for Ada"),
        ("BE68 5390 0754 7034 is mine", "[iban redacted] is mine"),
        ("From AT61 1904 3002 3457 3201 from me", "From [iban redacted] from me"),
        (
            '{"to": "Dear\\nada@example.org\\t+49 30 901820"}',
            '{"to": "Dear\\n[email redacted]\\t[phone redacted]"}',
        ),
    ],
)
def test_personal_data_in_sentences_stays_from_llms(asked: str, sent: str) -> None:
    assert shipped("personal-data").decide(ASK, [{"content": asked}]).content == [{"content": sent}]


PEM = "-----BEGIN PRIVATE KEY-----\nMIIE+abc/=\nxyz\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (f"Mine is {PEM}; is it good?", "Mine is [key redacted]\n; is it good?"),
        (
            json.dumps({"type": "service_account", "private_key": PEM, "client_id": "1"}),
            '{"type": "service_account", "private_key": "[key redacted]\\n", "client_id": "1"}',
        ),
        ("> " + PEM.strip().replace("\n", "\n> ") + "\n> good?", "> [key redacted]\n> good?"),
        (f"first\\nghp_{'a' * 36}\\nlast", "first\\n[key redacted]\\nlast"),
        ("x\\tAKIAIOSFODNN7EXAMPLE is it", "x\\t[key redacted] is it"),
        (f"my key_ghp_{'a' * 36}, see", "my key_[key redacted], see"),
    ],
)
def test_secrets_in_sentences_stay_from_llms(asked: str, sent: str) -> None:
    assert shipped("secrets").decide(ASK, [{"content": asked}]).content == [{"content": sent}]


# -- in Git ------------------------------------------------------------------------------------------------


def snapshot(files: dict[str, str], platform: PlatformDefinition | None = None) -> AppSnapshot:
    validation = validate(app(files), "demo", platform=platform)
    assert validation.snapshot is not None, validation.problems
    return validation.snapshot


def test_an_apps_policies_come_after_the_platforms_and_survive_a_round_trip() -> None:
    platform, problems = validate_platform(
        app({PLATFORM_FILE: "policies: {all: {rules: [{id: a, events: [llm.request], action: DENY}]}}"})
    )
    assert problems == []
    found = snapshot(
        {"state/policies/own.yaml": "rules: [{id: b, events: [TOOL.CALL], action: deny}]"}, platform
    )
    assert list(found.policies) == ["platform/all", "own"]
    again = AppSnapshot.from_json(json.loads(json.dumps(found.to_json())))
    assert again.policies == found.policies
    decide = PolicyChain.of(again).decide
    assert decide(ASK, "x").rule == "platform/all/a"
    assert decide(CALL, {}, tool="t").rule == "own/b"


def test_keys_are_kept_from_llms_unless_the_platform_says_otherwise() -> None:
    key = "ghp_" + "a1B2" * 9
    assert PolicyChain.of(snapshot({})).decide(ASK, f"use {key}").content == "use [key redacted]"
    off = PlatformDefinition(shipped_policies=())
    assert PolicyChain.of(snapshot({}, off)).decide(ASK, f"use {key}").content == f"use {key}"


def test_every_shipped_policy_is_valid() -> None:
    for name in ShippedPolicy:
        assert shipped_policy(name).rules


@pytest.mark.parametrize(
    ("policy", "line", "code", "told"),
    [
        ("rules:\n  - {id: a, events: [llm.request], action: REDACT}", 2, Code.MISSING_KEY,
         "redacts nothing"),
        ("rules:\n  - {id: a, events: [llm.request], tools: [x], action: DENY}", 2, Code.BAD_VALUE,
         "names tools"),
        ("rules:\n  - {id: a, events: [tool.result], when: [{argument: a, equals: 1}], action: DENY}", 2,
         Code.BAD_VALUE, "has conditions"),
        ("rules:\n  - {id: a, events: [tool.call], when: [{argument: a}], action: DENY}", 2, Code.MISSING_KEY,
         "tests nothing"),
        ("rules:\n  - {id: a, events: [llm.request], patterns: ['(?=x)'], action: DENY}", 2, Code.BAD_VALUE,
         "linear"),
        ("rules:\n  - {id: a, events: [], action: DENY}", 2, Code.MISSING_KEY, "looks at nothing"),
        ("rules:\n  - {id: a, events: [nothing], action: DENY}", 2, Code.BAD_VALUE, "llm.request"),
        ("rules:\n  - {id: a, events: [tool.call], action: DENY}\n"
         "  - {id: a, events: [tool.call], action: DENY}", 1, Code.BAD_VALUE, "two rules"),
        ("otherTools: REDACT", 1, Code.BAD_VALUE, "cannot be REDACT"),
    ],
)  # fmt: skip
def test_mistakes_in_a_policy_are_told_with_their_place(
    policy: str, line: int, code: Code, told: str
) -> None:
    problems = validate(app({"state/policies/p.yaml": policy}), "demo").problems
    assert [(problem.file, problem.line, problem.code) for problem in problems] == [
        ("state/policies/p.yaml", line, code)
    ]
    assert told in problems[0].message


HUGE = r"(?:7|[a-z0-9]{1,900}|\pL{1,300})x{1,500}"
"""Forty characters, which without a bound take some megabytes and a sixth of a second to compile."""


def test_a_pattern_that_is_small_as_text_only_is_refused() -> None:
    policy = json.dumps({"rules": [rule("DENY", patterns=[HUGE])]})
    [problem] = validate(app({"state/policies/p.yaml": policy}), "demo").problems
    assert (problem.file, problem.code) == ("state/policies/p.yaml", Code.BAD_VALUE)
    assert "pattern too large" in problem.message


def test_nothing_is_allowed_by_a_policy_that_only_an_older_release_took() -> None:
    known = snapshot({}).to_json() | {"policies": {"old": {"rules": [rule("DENY", patterns=[HUGE])]}}}
    with pytest.raises(PolicyUnusable, match="a policy of demo has a regular expression that is too large"):
        PolicyChain.of(AppSnapshot.from_json(known))


def test_an_app_has_so_many_patterns_in_all_its_policies() -> None:
    def policy(first: int, count: int) -> str:
        patterns = [f"x{number}" for number in range(first, first + count)]
        rules = [
            {**rule("DENY", patterns=patterns[start : start + 20]), "id": f"r{start}"}
            for start in range(0, count, 20)
        ]
        return json.dumps({"rules": rules})

    half = MAX_PATTERNS // 2
    files = {"state/policies/a.yaml": policy(0, half), "state/policies/b.yaml": policy(half, half)}
    assert validate(app(files), "demo").problems == ()
    condition = rule("DENY", when=[{"argument": "a", "matches": "x"}])
    files["state/policies/c.yaml"] = json.dumps({"rules": [condition]})
    [problem] = validate(app(files), "demo").problems
    assert (problem.file, problem.code) == ("state/policies/c.yaml", Code.QUOTA_EXCEEDED)


def test_what_was_accepted_is_not_compiled_again_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = snapshot({"state/policies/p.yaml": json.dumps({"rules": [rule("DENY", patterns=["x+"])]})})
    monkeypatch.setattr(model_policies, "compiled", lambda pattern: pytest.fail(f"compiles {pattern}"))
    assert AppSnapshot.from_json(json.loads(json.dumps(found.to_json()))).policies == found.policies


def test_a_decision_is_on_record_without_what_it_was_about(tmp_path) -> None:
    decision = chain({"rules": [rule("REDACT", "llm.request", detect=["card"])]}).decide(
        ASK, "4111111111111111"
    )
    audit.record(
        tmp_path / "demo", ASK, decision, deployment="demo", instance="i1", component="c", user="ada",
        request_id="r1", model="m",
    )  # fmt: skip
    line = json.loads((tmp_path / "demo/audit.log").read_text())
    assert line.pop("ts") > 0
    assert line == {
        "event": "llm.request", "action": "REDACT", "rule": "p0/r", "redactions": {"card": 1},
        "tool": "", "model": "m", "deployment": "demo", "instance": "i1", "component": "c", "user": "ada",
        "requestId": "r1",
    }  # fmt: skip


def test_a_decision_is_quick_by_shipped_rules_over_little_content_only() -> None:
    secrets = shipped("secrets")
    assert secrets.is_quick(ASK, ["a" * 3900])
    assert not secrets.is_quick(ASK, ["a" * 4000])
    assert secrets.is_quick(ASK, {"key": list(range(55))})
    # Also what holds no text takes its time.
    for many in (
        [10**4000],
        [None] * 64,
        {"key": list(range(64))},
        [[]] * 64,
        {str(n): n for n in range(32)},
    ):
        assert not secrets.is_quick(ASK, many)
    own = Policy.model_validate({"rules": [rule("DENY", "llm.request", patterns=["(a|b)+c"])]})
    both = PolicyChain([("p0", own)], [("shipped/secrets", shipped_policy("secrets"))])
    assert not both.is_quick(ASK, ["a"])
    # The app's own rule does not concern these.
    assert both.is_quick(RESULT, ["a"], tool="core.state.get")
