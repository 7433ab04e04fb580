"""What an app may ask to have installed. Each refusal is a way to fetch from where nobody allowed it."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.apps import app, places
from uhlp_state.dependencies import dependencies
from uhlp_state.npm_source import parse_lock, parse_package
from uhlp_state.problems import Code
from uhlp_state.requirements_source import parse_requirements
from uhlp_state.validate import validate

SHA = "sha256:" + "a" * 64
PACKAGE = {"name": "app", "version": "1.0.0", "dependencies": {"left-pad": "^1.3.0"}}
LOCK = {
    "name": "app",
    "version": "1.0.0",
    "lockfileVersion": 3,
    "packages": {
        "": PACKAGE,
        "node_modules/left-pad": {
            "version": "1.3.0",
            "resolved": "https://elsewhere.invalid/left-pad.tgz",
            "integrity": "sha512-AAAA",
        },
    },
}


def codes(parse, text):
    return [problem.code for problem in parse(text.encode()).problems]


@pytest.mark.parametrize(
    ("text", "installed"),
    [
        ("requests\n", "requests\n"),
        (
            "  Requests [socks, use_chardet]  >= 2.1 , < 3 # why\n\n",
            "Requests [socks, use_chardet] >= 2.1 , < 3\n",
        ),
        ("numpy (>=1.2)\r\n", "numpy (>=1.2)\n"),
        (
            "a==1.*; python_version >= '3.11' and extra == \"x\"",
            "a==1.*; python_version >= '3.11' and extra == \"x\"\n",
        ),
        (f"a==1 \\\n  --hash={SHA} \\\n  --hash={SHA}\n", f"a==1 --hash={SHA} --hash={SHA}\n"),
        (f"--require-hashes\na==1 --hash={SHA}", f"--require-hashes\na==1 --hash={SHA}\n"),
        ("# nothing but a comment\n--require-hashes\n", ""),
        ("", ""),
    ],
)
def test_requirements_reach_pip_in_one_plain_form(text, installed):
    assert parse_requirements(text.encode()).value == installed.encode()


@pytest.mark.parametrize(
    "line",
    [
        "-i https://index.invalid/simple",
        "--index-url=https://index.invalid/simple",
        "--extra-index-url https://index.invalid",
        "--find-links /tmp",
        "-f .",
        "-e .",
        "-r other.txt",
        "-c constraints.txt",
        "--trusted-host index.invalid",
        "a==1 --global-option=x",
        "a==1 --config-settings=x=y",
        "git+https://example.invalid/a.git",
        "https://example.invalid/a-1-py3-none-any.whl",
        "a @ https://example.invalid/a.whl",
        "a@file:///etc/passwd",
        "./a",
        "/srv/a",
        "a-1-py3-none-any.whl",
        "${HOME}",
    ],
)
def test_what_names_a_source_or_an_option_is_refused(line):
    [problem] = parse_requirements(f"good\n{line}\n".encode()).problems
    assert (problem.line, problem.code) == (2, Code.DEPENDENCY_SOURCE)


@pytest.mark.parametrize(
    "line", ["two words", "a==", f"a --hash=md5:{'a' * 32}", "a==1 --hash=sha256:short", "ä==1", "a;\x0c-r x"]
)
def test_what_is_not_a_requirement_is_refused(line):
    assert parse_requirements(line.encode()).value is None


def test_an_encoding_that_pip_would_follow_changes_nothing():
    hidden = "# coding: utf-7\na+AAo--index-url http+ADo-//x\n"
    assert parse_requirements(hidden.encode()).value is None


@given(st.text(alphabet=st.sampled_from("ab.=<>[](),;-_ \\\n#@:/$'\"\x0b\x0c\x85\u2028"), max_size=60))
def test_no_text_makes_a_line_that_pip_reads_otherwise(text):
    accepted = parse_requirements(text.encode()).value or b""
    for line in accepted.decode().splitlines():
        assert not line.startswith(("-", ".", "/"))
        assert not any(mark in line for mark in ("://", " @ ", "${", "#", "\\"))
    assert parse_requirements(accepted).value == accepted


def test_npm_gets_no_script_and_no_address():
    package = {**PACKAGE, "scripts": {"preinstall": "curl"}, "publishConfig": {"registry": "x"}}
    assert json.loads(parse_package(json.dumps(package).encode()).value) == PACKAGE
    lock = json.loads(parse_lock(json.dumps(LOCK).encode()).value)
    assert lock["packages"]["node_modules/left-pad"] == {"version": "1.3.0", "integrity": "sha512-AAAA"}
    assert b"elsewhere" not in parse_lock(json.dumps(LOCK).encode()).value


@pytest.mark.parametrize(
    "version",
    ["file:../x", "git+ssh://git@example.invalid/x", "https://example.invalid/x.tgz", "user/repo", "npm:x@1"],
)
def test_an_npm_dependency_from_elsewhere_is_refused(version):
    package = json.dumps({**PACKAGE, "dependencies": {"x": version}}, indent=1)
    [problem] = parse_package(package.encode()).problems
    assert (problem.line, problem.code) == (5, Code.DEPENDENCY_SOURCE)


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("node_modules/x", {"link": True, "resolved": "../x", "version": "1.0.0", "integrity": "sha512-A"}),
        ("../../etc", {"version": "1.0.0", "integrity": "sha512-A"}),
        ("node_modules/../x", {"version": "1.0.0", "integrity": "sha512-A"}),
        ("node_modules/x", {"version": "git+https://example.invalid/x", "integrity": "sha512-A"}),
        ("node_modules/x", {"version": "1.0.0"}),
        ("node_modules/x", {"version": "1.0.0", "integrity": "sha1-A"}),
        ("node_modules/x", []),
    ],
)
def test_a_lock_names_versions_of_the_registry_with_their_hashes(path, entry):
    lock = {**LOCK, "packages": {"": PACKAGE, path: entry}}
    assert parse_lock(json.dumps(lock).encode()).value is None


def test_node_packages_need_their_lock():
    package = json.dumps(PACKAGE)
    found = validate(app({"state/package.json": package}), "demo")
    assert [(problem.file, problem.code) for problem in found.problems] == [
        ("state/package.json", Code.MISSING_FILE)
    ]
    whole = {"state/package.json": package, "state/package-lock.json": json.dumps(LOCK)}
    assert set(validate(app(whole), "demo").snapshot.environments) == {"javascript"}


def test_only_what_is_installed_names_an_environment():
    def snapshot(text):
        return validate(app({"state/requirements.txt": text}), "demo").snapshot

    plain, commented, other = snapshot("a==1\n"), snapshot("# why\na==1  # so\n"), snapshot("a==2\n")
    assert plain.environments == commented.environments != other.environments
    assert plain.pool_spec("python") != other.pool_spec("python")
    assert snapshot("# none\n").environments == {}
    assert snapshot("# none\n").pool_spec("python") == plain.pools["python"].spec_hash()


def test_a_snapshot_keeps_its_environments_as_json():
    snapshot = validate(app({"state/requirements.txt": "a==1\n"}), "demo").snapshot
    assert type(snapshot).from_json(orjson.loads(orjson.dumps(snapshot.to_json()))) == snapshot


def test_what_cannot_be_read_is_named_with_its_line():
    found = validate(app({"state/requirements.txt": "a==1\n-e .\n"}), "demo")
    assert places(found.problems) == [("state/requirements.txt", 2, 1, "DEPENDENCY_SOURCE")]


def test_a_missing_file_asks_for_nothing():
    assert dependencies(lambda path, parse: None) == []
