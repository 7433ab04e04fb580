"""An app in JavaScript, from its template to a revision that cannot be served."""

import shutil

import pytest

from e2e.platform_under_test import Platform, answering, app_files
from uhlp_state.templates import render_template

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js on this machine")

HANDLER = "state/_jit_code/hello/v1/handler.mjs"


CALLS = """\
import { AppError, ToolError, invoke } from "uhlp-sdk";

export async function handle(input, context) {
  const sum = await invoke("add", { numbers: [1, 2, 3] });
  try {
    await invoke("add", { numbers: [] });
  } catch (error) {
    if (error instanceof ToolError) return { sum, code: error.code, id: context.requestId };
  }
}

export function add({ numbers }) {
  if (numbers.length === 0) throw new AppError("NOTHING_TO_ADD", "give numbers");
  return numbers.reduce((sum, number) => sum + number);
}
"""


def test_components_in_javascript_call_each_other(platform: Platform) -> None:
    pool = "    - {poolName: node, dockerImage: uhlp/node_runner}\n"
    routes = "".join(
        f"  - componentId: {name}\n    handlerType: JIT\n    targetPoolName: node\n"
        f"    taskDetails: {{language: javascript, script: _jit_code/calls.mjs, function: {name}}}\n"
        for name in ("add", "handle")
    )
    routes += "    routeMatcher: {pathPattern: /sum, methods: [GET]}\n"
    files = app_files("calls", answering("Python"), pool=pool, routes=routes)
    platform.create("calls", {**files, "state/_jit_code/calls.mjs": CALLS})
    answer = platform.request("GET", "/sum", app="calls")
    expected = {"sum": 6, "code": "NOTHING_TO_ADD", "id": answer.headers["X-Request-ID"]}
    assert (answer.status, answer.json) == (200, expected)


def test_from_template_to_quarantine(platform: Platform) -> None:
    files = {path: data.decode() for path, data in render_template("hello-node", "greeter").items()}
    clone = platform.create("greeter", files)
    assert platform.answer("greeter", "/hello/Ada") == {"message": "Hello, Ada!"}
    clone.deploy({HANDLER: files[HANDLER].replace("!`", "!!`")})
    assert platform.answer("greeter", "/hello/Ada") == {"message": "Hello, Ada!!"}
    clone.commit({HANDLER: 'import { name } from "./name.mjs";\nexport const handle = () => name;\n'})
    refused = clone.push()
    assert "_jit_code/hello/v1/handler.mjs:1" in refused.err
    assert "cannot import './name.mjs': there is no such file" in refused.err
    assert platform.answer("greeter", "/hello/Ada") == {"message": "Hello, Ada!!"}
