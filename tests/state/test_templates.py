"""Templates: a new app is valid at once, and its own tests pass without the platform."""

import shutil
import subprocess
import sys

import pytest

from state.apps import tree
from uhlp_state.templates import UnknownTemplate, list_templates, render_template
from uhlp_state.validate import validate


@pytest.mark.parametrize("name", list_templates())
def test_a_new_app_is_valid(name):
    files = render_template(name, "my-app")
    result = validate(tree(files), "my-app")
    assert [problem.format() for problem in result.problems] == []
    assert result.snapshot.definition.app_id == "my-app"
    assert not [path for path, data in files.items() if b"{{" in data]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("hello", [sys.executable, "-m", "unittest"]),
        ("hello", [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]),
        ("hello-node", ["node", "--test"]),
    ],
)
def test_its_own_tests_pass(tmp_path, name, command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} on this machine")
    for path, data in render_template(name, "my-app").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    folder = tmp_path / "state/_jit_code/hello/v1"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_app_id_that_yaml_would_read_otherwise_stays_text():
    assert validate(tree(render_template("hello", "null")), "null").problems == ()


@pytest.mark.parametrize("name", ["helo", "../hello", ""])
def test_an_unknown_template_is_named_with_what_there_is(name):
    with pytest.raises(UnknownTemplate, match="hello"):
        render_template(name, "my-app")
