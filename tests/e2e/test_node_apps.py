"""An app in JavaScript, from its template to a revision that cannot be served."""

import shutil

import pytest

from e2e.platform_under_test import Platform
from uhlp_state.templates import render_template

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js on this machine")

HANDLER = "state/_jit_code/hello/v1/handler.mjs"


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
