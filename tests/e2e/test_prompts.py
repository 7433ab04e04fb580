"""An app that is a prompt and nothing else: pushed, live, asked, and refused with file and line."""

from e2e.platform_under_test import Platform

FILES = {
    "state/app_definition.yaml": "appId: asks\nsandboxPools: {pools: [{poolName: main}]}\n",
    "state/component_registry.yaml": (
        "components:\n"
        "  - componentId: root\n    handlerType: LLM\n    targetPoolName: main\n"
        "    taskDetails: {prompt_template: prompts/p.yaml}\n"
        "    routeMatcher: {pathPattern: /, methods: [POST]}\n"
    ),
    "state/prompts/p.yaml": "template: |\n  How is {{ input.name }}?\n",
}


def test_a_prompt_is_served_and_a_broken_one_refused(platform: Platform) -> None:
    clone = platform.create("asks", FILES)
    headers = {"Content-Type": "application/json"}

    def ask(body: str) -> tuple[int, str]:
        answer = platform.request("POST", "/", app="asks", body=body, headers=headers)
        return answer.status, answer.json["code"]

    assert ask("{}") == (500, "PROMPT_FAILED")
    # It is rendered and asked; that this app names no LLM is the tool's to say.
    status, code = ask('{"name": "Ada"}')
    assert (status, code.partition("_")[0]) == (503, "LLM")
    clone.commit({"state/prompts/p.yaml": "template: |\n  Hello\n  {{ inptu }}\n"})
    pushed = clone.push()
    assert pushed.code == 1
    assert "state/prompts/p.yaml:3:3 TEMPLATE_UNKNOWN_NAME" in pushed.err
    assert "did you mean 'input'?" in pushed.err
    clone.git("reset", "--quiet", "--hard", "HEAD~1")
    clone.deploy({"state/prompts/p.yaml": "template: Hello\n"})
    assert ask("{}")[0] == 503
