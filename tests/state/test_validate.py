"""Every mistake of a definition leads to exactly its problem, at its place. One line per mistake."""

from timeit import Timer

import pytest

from state.apps import DEFINITION, MODEL, REGISTRY, app, places
from uhlp_state.parse_cache import ParseCache
from uhlp_state.problems import Code
from uhlp_state.validate import validate
from uhlp_state.yaml_source import MAX_FINDINGS

APP_FILE = "state/app_definition.yaml"
REGISTRY_FILE = "state/component_registry.yaml"
SECURITY_FILE = "state/security_config.yaml"
WORKFLOW_FILE = "state/workflows/w.yaml"
HANDLER_FILE = "state/_jit_code/hello/v1/handler.py"
SCHEMA_FILE = "state/schemas/note.json"
OPTIMIZATION_FILE = "state/optimization_config.yaml"
MARK = "§".encode()
HASH = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQxMjM0$" + "A" * 43

WORKFLOW = """\
workflowId: order
trigger: {type: http, config: {pathPattern: /orders, method: POST}}
startAt: check
steps:
  check:
    type: jit
    target: {language: python, script: _jit_code/hello/v1/handler.py, function: handle}
    inputMapping: {order: trigger.requestData.httpDetails.body}
    transitions:
      onSuccess: answer
      onFailure:
        - condition: step.output.error.code == 'EMPTY'
          nextStep: answer
      onFailureDefault: answer
  answer:
    type: control
    subtype: formatResponse
    transitions: [{end: true}]
"""


def problems_of(changes, *, modes=None):
    return validate(app(changes, modes=modes), "demo").problems


def test_the_app_is_valid_before_it_is_broken():
    assert problems_of({WORKFLOW_FILE: WORKFLOW, SCHEMA_FILE: '{"type": "object"}'}) == ()


@pytest.mark.parametrize("suffix", ["js", "mjs", "cjs"])
def test_an_app_in_javascript_is_valid(suffix):
    script = f"_jit_code/hello/v1/handler.{suffix}"
    task = f"language: javascript\n      script: {script}"
    changes = {
        **pool("dockerImage: uhlp/node_runner"),
        **registry("script: _jit_code/hello/v1/handler.py", task),
        f"state/{script}": "export function handle() {}",
    }
    assert problems_of(changes) == ()


def definition(old, new):
    assert old in DEFINITION
    return {APP_FILE: DEFINITION.replace(old, new)}


def registry(old, new, without=""):
    assert old in REGISTRY
    return {REGISTRY_FILE: REGISTRY.replace(old, new).replace(without, "")}


def pool(text):
    return definition("    - poolName: python\n", f"    - poolName: python\n      {text}\n")


def workflow(old, new, without=""):
    assert old in WORKFLOW
    return {WORKFLOW_FILE: WORKFLOW.replace(old, new).replace(without, "")}


def component(handler_type, task):
    return (
        f"components:\n  - componentId: a\n    handlerType: {handler_type}\n"
        f"    targetPoolName: python\n    taskDetails:\n      {task}\n"
    )


def unmark(files):
    """The files without the mark, and the file, line and column where it was."""
    clean, place = {}, None
    for path, text in files.items():
        data = text.encode() if isinstance(text, str) else text
        before, mark, after = data.partition(MARK)
        clean[path] = before + after
        if mark:
            place = (path, before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode()) + 1)
    return clean, place


def tool(text, other="component: hello"):
    return {"state/tools/t.yaml": f"name: greet\ndescription: Says hello.\n{other}\n{text}\n"}


def two_tools(first, second):
    texts = {name: f"description: x\ncomponent: hello\nname: {name}" for name in (first, second)}
    return {
        "state/tools/a.yaml": texts[first],
        "state/tools/b.yaml": texts[second].replace("name: ", "name: §"),
    }


SECOND = """
  - componentId: other
    handlerType: jit
    targetPoolName: python
    taskDetails: {script: _jit_code/hello/v1/handler.py, function: handle}
    routeMatcher: {pathPattern: "/hello/:id", methods: [post, get]}
"""

MISTAKES = {
    # YAML
    "not closed": ("YAML_SYNTAX", {APP_FILE: "appId: §[demo"}),
    "tab": ("YAML_SYNTAX", {APP_FILE: "appId: demo\n§\tversion: x\n"}),
    "control character": ("YAML_SYNTAX", {APP_FILE: "appId: demo\nversion: §\x07"}),
    "not UTF-8": ("INVALID_UTF8", {APP_FILE: b"appId: demo\ndisplayName: \xc2\xa7\xe9"}),
    "duplicate key": ("YAML_DUPLICATE_KEY", {APP_FILE: DEFINITION + "§appId: demo\n"}),
    "numeric key": ("YAML_KEY_NOT_TEXT", {APP_FILE: DEFINITION + "  §1: x\n"}),
    "list as key": ("YAML_KEY_NOT_TEXT", {APP_FILE: DEFINITION + "  ? §[a]\n  : x\n"}),
    "alias as key": ("YAML_ALIAS", {APP_FILE: DEFINITION + "  a: &a b\n  §*a : x\n"}),
    "tag": ("YAML_TAG", definition("hello", "§!!python/name:os.system x")),
    "undefined alias": ("YAML_ALIAS", definition("hello", "§*x")),
    "alias in itself": ("YAML_ALIAS", definition("hello", "&x [§*x]")),
    "merge key": ("YAML_ALIAS", {APP_FILE: DEFINITION + "  §<<: {a: b}\n"}),
    "two documents": ("YAML_MANY_DOCUMENTS", {APP_FILE: DEFINITION + "§---\nappId: x\n"}),
    "infinity": ("YAML_NUMBER", definition("hello", "§.inf")),
    "huge number": ("YAML_NUMBER", definition("hello", "§" + "9" * 30)),
    "number beyond floats": ("YAML_NUMBER", definition("hello", "§1e999")),
    "nested too deep": ("YAML_TOO_COMPLEX", definition("hello", "[" * 62 + "§[" + "]" * 63)),
    "another file": ("YAML_SYNTAX", {"state/tools/t.yaml": "a: §[1"}),
    # The model
    "unknown key": ("UNKNOWN_KEY", {APP_FILE: DEFINITION + "§foo: 1\n"}),
    "unknown key in a list": ("UNKNOWN_KEY", pool("§minInstance: 1")),
    "missing key": (
        "MISSING_KEY",
        registry("componentId: hello\n", "§componentId: hello\n", "    targetPoolName: python\n"),
    ),
    "missing at the top": ("MISSING_KEY", {APP_FILE: "§displayName: Demo\n"}),
    "number for text": ("WRONG_TYPE", definition("displayName: Demo", "version: §1.0")),
    "text for number": ("WRONG_TYPE", pool('concurrency: §"8"')),
    "true for number": ("WRONG_TYPE", pool("concurrency: §true")),
    "list for mapping": ("WRONG_TYPE", definition("\n  greeting: hello", " §[a]")),
    "text for list": ("WRONG_TYPE", registry("[GET]", "§GET")),
    "list for the file": ("WRONG_TYPE", {APP_FILE: "§- appId: demo"}),
    "list for a name": ("WRONG_TYPE", pool("isolation: §[auto]")),
    "list for a limit": ("WRONG_TYPE", pool("resourceLimits: {cpuLimit: §[1]}")),
    "too few": ("BAD_VALUE", pool("concurrency: §0")),
    "too long a timeout": ("BAD_VALUE", pool("timeoutSeconds: §901")),
    "not a mode": ("BAD_VALUE", pool("executionMode: §forks")),
    "not a handler type": ("BAD_VALUE", registry("JIT", "§JITTER")),
    "not a method": ("BAD_VALUE", registry("[GET]", "[GET, §FETCH]")),
    "pool named as a path": ("BAD_VALUE", definition("poolName: python", "poolName: §../x")),
    "image that reads as an option": ("BAD_VALUE", pool("dockerImage: §--privileged")),
    "null for a mapping": (
        "WRONG_TYPE",
        definition("configuration:\n  greeting: hello", "configuration: §~"),
    ),
    "not an app id": ("BAD_VALUE", definition("appId: demo", "appId: §De--mo")),
    "cpu of zero": ("BAD_LIMIT", pool("resourceLimits: {cpuLimit: §0}")),
    "cpu unreadable": ("BAD_LIMIT", pool("resourceLimits: {cpuLimit: §half}")),
    "memory too small": ("BAD_LIMIT", pool("resourceLimits: {memoryLimit: §15M}")),
    "memory unreadable": ("BAD_LIMIT", pool("resourceLimits: {memoryLimit: §lots}")),
    "max below min": (
        "BAD_LIMIT",
        definition("poolName: python", "§poolName: python\n      minInstances: 3\n      maxInstances: 2"),
    ),
    "body too large": ("BAD_VALUE", {APP_FILE: DEFINITION + "maxBodyBytes: §104857601\n"}),
    "plain key": ("BAD_KEY_HASH", {SECURITY_FILE: "apiKeys:\n  - keyHash: §sk-1234\n"}),
    "costly hash": (
        "BAD_KEY_HASH",
        {SECURITY_FILE: "apiKeys:\n  - keyHash: §" + HASH.replace("65536", "4194304")},
    ),
    "no route": ("BAD_ROUTE", registry("/hello/:name", "§hello")),
    "wildcard in the middle": ("BAD_ROUTE", registry("/hello/:name", "§/*rest/x")),
    "optimisation key": ("UNKNOWN_KEY", {OPTIMIZATION_FILE: "enabled: true\n§rule: []\n"}),
    "optimisation action": (
        "BAD_VALUE",
        {OPTIMIZATION_FILE: "rules:\n  - condition: {expression: count(x) > 1}\n    action: §RUN\n"},
    ),
    # Cross references
    "another app's id": ("APP_ID_MISMATCH", definition("appId: demo", "appId: §other")),
    "same pool twice": ("DUPLICATE_POOL", pool("minInstances: 1\n    - poolName: §python")),
    "same component twice": (
        "DUPLICATE_COMPONENT",
        {REGISTRY_FILE: REGISTRY + SECOND.replace("other", "§hello").replace("/hello/:id", "/x")},
    ),
    "route conflict": ("ROUTE_CONFLICT", {REGISTRY_FILE: REGISTRY + SECOND.replace('"/hello', '§"/hello')}),
    "unknown pool": ("UNKNOWN_POOL", registry("targetPoolName: python", "targetPoolName: §pyton")),
    "unknown script": ("UNKNOWN_SCRIPT", registry("_jit_code/hello/v1", "§_jit_code/hello/v2")),
    "script outside": ("PATH_ESCAPE", registry("_jit_code/hello", "§_jit_code/../hello")),
    "absolute script": ("PATH_ESCAPE", registry("_jit_code", "§/etc/_jit_code")),
    "script with backslash": ("PATH_ESCAPE", registry("_jit_code/hello", "§_jit_code\\hello")),
    "script that is no code": (
        "UNKNOWN_SCRIPT",
        registry("_jit_code/hello/v1/handler.py", "§app_definition.yaml"),
    ),
    "unknown function": ("UNKNOWN_FUNCTION", registry("function: handle", "function: §handel")),
    "script of another language": (
        "UNKNOWN_SCRIPT",
        pool("dockerImage: uhlp/node_runner")
        | registry("script: _jit", "language: javascript\n      script: §_jit"),
    ),
    "JavaScript in a Python pool": (
        "LANGUAGE_MISMATCH",
        {
            REGISTRY_FILE: REGISTRY.replace("Name: python", "Name: §python").replace(
                "handler.py", "handler.js\n      language: node"
            ),
            "state/_jit_code/hello/v1/handler.js": "export const handle = () => 1;",
        },
    ),
    "Python in a pool for JavaScript": (
        "LANGUAGE_MISMATCH",
        pool("dockerImage: uhlp/node_runner") | registry("Name: python", "Name: §python"),
    ),
    "step's language": ("BAD_VALUE", workflow("language: python", "language: §cobol")),
    "unknown language": (
        "BAD_VALUE",
        registry("function: handle", "function: handle\n      language: §cobol"),
    ),
    "unknown task key": ("UNKNOWN_KEY", registry("function: handle", "function: handle\n      §functon: x")),
    "missing task key": ("MISSING_KEY", registry("script:", "§script:", "      function: handle\n")),
    "unknown schema": (
        "UNKNOWN_SCHEMA",
        registry("    routeMatcher:", "    requestSchema: §schemas/x.json\n    routeMatcher:"),
    ),
    "unknown prompt": (
        "UNKNOWN_PROMPT",
        {APP_FILE: DEFINITION + MODEL, REGISTRY_FILE: component("llm", "prompt_template: §prompts/a.yaml")},
    ),
    "unknown workflow": ("UNKNOWN_WORKFLOW", {REGISTRY_FILE: component("Workflow", "workflowId: §ordr")}),
    "inline and in a file": (
        "DUPLICATE_DEFINITION",
        {APP_FILE: DEFINITION + "§securityConfig: {}\n", SECURITY_FILE: "apiKeys: []"},
    ),
    # Workflows and prompts
    "start nowhere": ("UNKNOWN_STEP", workflow("startAt: check", "startAt: §chek")),
    "success nowhere": ("UNKNOWN_STEP", workflow("onSuccess: answer", "onSuccess: §anser")),
    "failure nowhere": ("UNKNOWN_STEP", workflow("nextStep: answer", "nextStep: §anser")),
    "listed nowhere": ("UNKNOWN_STEP", workflow("[{end: true}]", "[{nextStep: §x}]")),
    "unknown transition": ("UNKNOWN_KEY", workflow("onSuccess:", "§onSucess:")),
    "unknown listed key": ("UNKNOWN_KEY", workflow("[{end: true}]", "[{§next: x}]")),
    "no steps": ("MISSING_KEY", {WORKFLOW_FILE: "§workflowId: a\ntrigger: {type: http}\nstartAt: b\n"}),
    "unknown step type": ("BAD_VALUE", workflow("type: jit", "type: §js")),
    "step's script": ("UNKNOWN_SCRIPT", workflow("script: _jit_code", "script: §_jit")),
    "step's function": ("UNKNOWN_FUNCTION", workflow("function: handle}", "function: §x}")),
    "step's prompt": (
        "UNKNOWN_PROMPT",
        workflow("type: control", "type: llm\n    target: {promptTemplate: §prompts/a.yaml}"),
    ),
    "jit step without function": ("MISSING_KEY", workflow("target: {", "target: §{", ", function: handle")),
    "llm step without prompt": (
        "MISSING_KEY",
        workflow("answer:\n    type: control", "answer:\n    §type: llm"),
    ),
    "mcp step without tool": ("MISSING_KEY", workflow("type: control", "type: mcp\n    target: §{x: y}")),
    "same workflow twice": (
        "DUPLICATE_WORKFLOW",
        {WORKFLOW_FILE: WORKFLOW, "state/workflows/x.yaml": WORKFLOW.replace("order\n", "§order\n", 1)},
    ),
    "tool of no component": ("UNKNOWN_COMPONENT", tool("", "component: §helo")),
    "tool without description": ("MISSING_KEY", {"state/tools/t.yaml": "§{name: a, component: hello}"}),
    "tool with a space": (
        "BAD_VALUE",
        {"state/tools/t.yaml": "{name: §a b, description: x, component: hello}"},
    ),
    "tool of another name space": (
        "BAD_VALUE",
        {"state/tools/t.yaml": "{name: §app.core..x, description: x, component: hello}"},
    ),
    "tool name that is too long with app.": (
        "BAD_VALUE",
        {"state/tools/t.yaml": f"{{name: §{'a' * 61}, description: x, component: hello}}"},
    ),
    "the same tool twice": ("DUPLICATE_TOOL", two_tools("greet", "app.greet")),
    "tools that look the same without dots": ("DUPLICATE_TOOL", two_tools("a.b", "a__b")),
    "tool schema that is none": ("SCHEMA_INVALID", tool("inputSchema:\n  type: §objekt")),
    "tool schema that looks outside": ("SCHEMA_REFERENCE", tool("inputSchema:\n  $ref: §http://x/y")),
    "tool schema of another type": ("BAD_VALUE", tool("outputSchema: §{type: array}")),
    "tool hint that is none": ("WRONG_TYPE", tool("annotations: {readOnlyHint: §1}")),
    "prompt without template": ("MISSING_KEY", {"state/prompts/p.yaml": "§model: x\n"}),
    "prompt with a bad schema": (
        "SCHEMA_INVALID",
        {"state/prompts/p.yaml": "template: hi\noutputSchema:\n  type: §objekt\n"},
    ),
    # Code and schemas
    "Python syntax": ("PYTHON_SYNTAX", {HANDLER_FILE: "def handle(input, context):\n    return §(\n"}),
    "Python in a test": ("PYTHON_SYNTAX", {"state/_jit_code/t.py": "x = §= 1"}),
    "null byte": ("PYTHON_SYNTAX", {HANDLER_FILE: "\n§x = '\0'\n"}),
    "Python too deep": ("PYTHON_SYNTAX", {HANDLER_FILE: "§x = " + "-" * 100_000 + "1"}),
    "Python not in UTF-8": ("INVALID_UTF8", {HANDLER_FILE: b"\n\xc2\xa7x = '\xe9'"}),
    "JSON syntax": ("JSON_SYNTAX", {SCHEMA_FILE: '{\n  "type": §object\n}'}),
    "schema with a wrong type": ("SCHEMA_INVALID", {SCHEMA_FILE: '{\n  "type": §"objekt"\n}'}),
    "schema with a bad pattern": ("SCHEMA_INVALID", {SCHEMA_FILE: '{\n  "pattern": §"("\n}'}),
    "schema of another draft": (
        "SCHEMA_INVALID",
        {SCHEMA_FILE: '{"$schema": §"http://json-schema.org/draft-07/schema#"}'},
    ),
    "remote reference": (
        "SCHEMA_REFERENCE",
        {SCHEMA_FILE: '{"properties": {\n  "a": {"$ref": §"https://example.org/a.json"}}}'},
    ),
    "file reference": ("SCHEMA_REFERENCE", {SCHEMA_FILE: '{"$ref": §"file:///etc/passwd"}'}),
    "dangling reference": ("SCHEMA_REFERENCE", {SCHEMA_FILE: '{"$ref": §"#/$defs/x"}'}),
}
"""The code, and the files; the place is marked with §."""


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_where_it_is(name):
    code, marked = MISTAKES[name]
    changes, place = unmark(marked)
    found = problems_of(changes)
    assert places(found) == [(*place, code)], [problem.format() for problem in found]
    assert found[0].message
    assert found[0].remedy


@pytest.mark.parametrize("file", [APP_FILE, REGISTRY_FILE])
def test_a_missing_file_is_a_problem(file):
    assert places(problems_of({file: None})) == [(file, 1, 1, "MISSING_FILE")]


def test_deep_json_is_a_problem():
    (problem,) = problems_of({SCHEMA_FILE: "[" * 5000 + "]" * 5000})
    assert (problem.file, problem.code) == (SCHEMA_FILE, Code.JSON_SYNTAX)


def test_all_problems_come_at_once_in_the_order_of_files_and_lines():
    found = problems_of(
        {
            APP_FILE: DEFINITION.replace("appId: demo", "appId: other") + "foo: 1\nbar: 2\n",
            REGISTRY_FILE: REGISTRY.replace("handlerType: JIT", "handlerType: X").replace("[GET]", "[A, B]"),
            HANDLER_FILE: "def",
            SCHEMA_FILE: "{",
        }
    )
    assert places(found) == [
        (HANDLER_FILE, 1, 4, "PYTHON_SYNTAX"),
        (APP_FILE, 8, 1, "UNKNOWN_KEY"),
        (APP_FILE, 9, 1, "UNKNOWN_KEY"),
        (REGISTRY_FILE, 3, 18, "BAD_VALUE"),
        (REGISTRY_FILE, 10, 17, "BAD_VALUE"),
        (REGISTRY_FILE, 10, 20, "BAD_VALUE"),
        (SCHEMA_FILE, 1, 2, "JSON_SYNTAX"),
    ]


@pytest.mark.parametrize(
    ("changes", "suggestion"),
    [
        (pool("minInstance: 1"), "minInstances"),
        (pool("executionMode: forks"), "fork"),
        (registry("targetPoolName: python", "targetPoolName: pyton"), "python"),
        (registry("function: handle", "function: handel"), "handle"),
        (registry("v1/handler", "v2/handler"), "_jit_code/hello/v1/handler.py"),
        (registry("function: handle", "function: handle\n      functon: x"), "function"),
        (registry("routeMatcher", "routeMatchr"), "routeMatcher"),
        (workflow("onSuccess:", "onSucess:"), "onSuccess"),
    ],
)
def test_a_near_miss_is_suggested(changes, suggestion):
    assert [problem.remedy for problem in problems_of(changes)] == [f"did you mean '{suggestion}'?"]


def test_a_route_conflict_names_both_places():
    (problem,) = problems_of({REGISTRY_FILE: REGISTRY + SECOND})
    assert problem.message == (
        "GET '/hello/:id' takes the same requests as '/hello/:name' of component 'hello' "
        "(state/component_registry.yaml:9)"
    )


def test_the_same_pattern_with_other_methods_is_no_conflict():
    second = SECOND.replace("[post, get]", "[post]")
    assert problems_of({REGISTRY_FILE: REGISTRY + second}) == ()


def test_a_wrong_type_says_what_was_expected_and_what_came():
    (problem,) = problems_of(pool('concurrency: "8"'))
    assert problem.message == "'concurrency' must be a whole number, got a string"


@pytest.mark.parametrize(
    "changes",
    [
        {SECURITY_FILE: "apiKeys:\n  - keyHash: sk-very-secret-key\n"},
        {SECURITY_FILE: "apiKeys:\n  - {keyHash: 'sk-very-secret-key', permissions: sk-very-secret-key}\n"},
        {APP_FILE: DEFINITION + "configuration: {password: sk-very-secret-key}\n"},
        {APP_FILE: DEFINITION + "maxBodyBytes: sk-very-secret-key\n"},
        {"state/prompts/p.yaml": "template: [sk-very-secret-key]\n"},
    ],
)
def test_values_are_not_repeated(changes):
    found = problems_of(changes)
    assert found
    assert not any("very-secret" in problem.format() for problem in found)


def test_a_wrong_alternative_is_spoken_of_by_its_key():
    (problem,) = problems_of(workflow("[{end: true}]", "5"))
    assert problem.message == "'transitions' must be a mapping, got a number"


def test_a_flood_of_problems_in_one_file_is_cut_off():
    flood = DEFINITION + "".join(f"key{n}: 1\n" for n in range(1000))
    found = problems_of({APP_FILE: flood})
    assert len(found) == MAX_FINDINGS + 1
    assert [problem.message for problem in found if problem.code == Code.TOO_MANY_PROBLEMS] == [
        f"1000 problems, of which the first {MAX_FINDINGS} are listed"
    ]


def test_long_keys_are_cut_short():
    (problem,) = problems_of({APP_FILE: DEFINITION + "x" * 500 + ": 1\n"})
    assert problem.message == f"unknown key '{'x' * 59}…'"


def test_inline_definitions_replace_the_files():
    inline = (
        DEFINITION + "initialComponentRegistry:\n" + "".join(f"  {line}\n" for line in REGISTRY.splitlines())
    )
    inline += f"securityConfig: {{apiKeys: [{{keyHash: '{HASH}'}}]}}\noptimizationConfig: {{enabled: true}}\n"
    result = validate(app({APP_FILE: inline, REGISTRY_FILE: None}), "demo")
    assert result.problems == ()
    assert [component.component_id for component in result.snapshot.components] == ["hello"]
    assert result.snapshot.security.api_keys[0].key_hash == HASH
    assert result.snapshot.optimization.enabled


def test_problems_of_inline_definitions_are_found_where_they_are():
    inline = DEFINITION + (
        "initialComponentRegistry:\n"
        "  components:\n"
        "    - {componentId: a, handlerType: JIT, targetPoolName: nope, "
        "taskDetails: {script: _jit_code/hello/v1/handler.py, function: handle}}\n"
    )
    found = problems_of({APP_FILE: inline, REGISTRY_FILE: None})
    assert places(found) == [(APP_FILE, 10, 58, "UNKNOWN_POOL")]


def test_a_broken_definition_hides_no_problem_of_the_registry_and_invents_none():
    found = problems_of({APP_FILE: "appId: [a", REGISTRY_FILE: REGISTRY.replace("handle\n", "nope\n")})
    assert places(found) == [(APP_FILE, 1, 8, "YAML_SYNTAX"), (REGISTRY_FILE, 7, 17, "UNKNOWN_FUNCTION")]
    assert places(problems_of({APP_FILE: "appId: [a", REGISTRY_FILE: None})) == [
        (APP_FILE, 1, 8, "YAML_SYNTAX")
    ]


def test_an_unchanged_file_is_read_once():
    cache = ParseCache()
    first, second = app(), app()
    assert validate(first, "demo", cache=cache).snapshot == validate(second, "demo", cache=cache).snapshot
    assert (first.reads, second.reads) == (3, 0)
    third = app(registry("function: handle", "function: nope"))
    assert places(validate(third, "demo", cache=cache).problems) == [
        (REGISTRY_FILE, 7, 17, "UNKNOWN_FUNCTION")
    ]
    assert third.reads == 1


def test_a_blob_at_two_paths_is_reported_at_both():
    broken = {"state/_jit_code/a.py": "x = =", "state/_jit_code/b.py": "x = ="}
    found = validate(app(broken), "demo", cache=ParseCache()).problems
    assert [problem.file for problem in found] == sorted(broken)


def test_names_of_python_are_not_names_of_yaml():
    assert places(problems_of(definition("displayName", "display_name"))) == [(APP_FILE, 2, 1, "UNKNOWN_KEY")]


def test_an_unchanged_app_is_validated_in_no_time():
    source = app({f"state/prompts/p{n}.yaml": f"template: {n}" for n in range(17)})
    cache = ParseCache()
    assert len(source.entries()) == 20
    timer = Timer(lambda: validate(source, "demo", cache=cache))
    timer.timeit(1)
    # About 0.2 ms; the best of many runs, since other work on the machine only ever adds.
    assert min(timer.repeat(repeat=50, number=1)) < 0.002


def test_every_code_has_a_meaning():
    assert all(code.meaning.endswith(".") for code in Code)
