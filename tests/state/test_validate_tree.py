"""What kinds of files, names and sizes a tree may have. Each attack is a tree that someone could push."""

import os

import pytest

from state.apps import app, places, tree
from uhlp_state.checks.tree import MAX_ASSET_BYTES, MAX_DEFINITION_BYTES, MAX_FILES
from uhlp_state.problems import Code
from uhlp_state.tree_source import DirectorySource, TreeEntry
from uhlp_state.validate import validate


class Listed:
    """Entries without content: reading any of them is a failure."""

    def __init__(self, *entries):
        self._entries = entries

    def entries(self):
        return self._entries

    def read(self, entry):
        raise AssertionError(f"{entry.path} was read")


def entry(path, *, size=1, mode=0o100644):
    return TreeEntry(path, mode, "0" * 40, size)


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        (0o120000, Code.SYMLINK),
        (0o160000, Code.SUBMODULE),
        (0o040000, Code.NOT_A_FILE),
        (0o010000, Code.NOT_A_FILE),
    ],
)
def test_only_regular_files_are_taken_and_others_are_not_read(mode, code):
    path = "state/security_config.yaml"
    found = validate(app({path: "../../etc/passwd"}, modes={path: mode}), "demo").problems
    assert places(found) == [(path, 1, 1, code)]


@pytest.mark.parametrize("mode", [0o100644, 0o100755, 0o100664])
def test_modes_of_regular_files(mode):
    assert validate(app({"run.sh": "x"}, modes={"run.sh": mode}), "demo").problems == ()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../x", Code.PATH_ESCAPE),
        ("state/../../x", Code.PATH_ESCAPE),
        ("/etc/passwd", Code.PATH_ESCAPE),
        ("state//x", Code.PATH_ESCAPE),
        ("state/./x", Code.PATH_ESCAPE),
        ("state/", Code.PATH_ESCAPE),
        ("", Code.PATH_ESCAPE),
        ("state\\x", Code.PATH_ESCAPE),
        ("state/a\nb", Code.PATH_ESCAPE),
        ("state/a\x00b", Code.PATH_ESCAPE),
        ("state/a\u202eb", Code.PATH_ESCAPE),
        ("state/\udcff", Code.PATH_ESCAPE),
        ("x" * 256, Code.PATH_ESCAPE),
        ("é" * 128, Code.PATH_ESCAPE),
        ("state/" + "x/" * 300 + "x", Code.PATH_ESCAPE),
        (".git/config", Code.GIT_PATH),
        ("state/.git/hooks/x", Code.GIT_PATH),
        (".GIT/config", Code.GIT_PATH),
        ("a/.Git", Code.GIT_PATH),
        (".git./config", Code.GIT_PATH),
        (".git /config", Code.GIT_PATH),
        ("git~1/config", Code.GIT_PATH),
        ("GIT~2", Code.GIT_PATH),
        (".git::$INDEX_ALLOCATION/config", Code.GIT_PATH),
        (".g\u200cit/config", Code.GIT_PATH),
        (".ｇｉｔ/config", Code.GIT_PATH),
    ],
)
def test_paths_that_could_leave_their_folder_are_refused(path, code):
    found = validate(Listed(entry(path)), "demo").problems
    assert [problem.code for problem in found if problem.file == path] == [code]


@pytest.mark.parametrize(
    "path", ["README.md", ".gitignore", ".github/x", "a b", "日本/é.txt", "git", "x~", "a:b"]
)
def test_ordinary_paths_are_taken(path):
    assert validate(app({path: "x"}), "demo").problems == ()


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("state/prompts/p.yaml", MAX_DEFINITION_BYTES),
        ("state/_jit_code/x.py", MAX_DEFINITION_BYTES),
        ("state/ui/film.mp4", MAX_ASSET_BYTES),
        ("film.mp4", MAX_ASSET_BYTES),
    ],
)
def test_files_have_a_size_limit_and_larger_ones_are_not_read(path, limit):
    too_large = validate(Listed(entry(path, size=limit + 1)), "demo").problems
    assert [problem.code for problem in too_large if problem.file == path] == [Code.FILE_TOO_LARGE]


def test_a_file_of_exactly_the_limit_is_taken():
    assert validate(app({"state/ui/x": b"x" * MAX_ASSET_BYTES}), "demo").problems == ()


def test_a_reference_to_a_refused_file_is_not_a_second_problem():
    handler = "state/_jit_code/hello/v1/handler.py"
    found = validate(app(modes={handler: 0o120000}), "demo").problems
    assert places(found) == [(handler, 1, 1, Code.SYMLINK)]


def test_too_many_files_are_not_looked_at():
    files = [entry(f"state/{n}.yaml") for n in range(MAX_FILES + 1)]
    assert places(validate(Listed(*files), "demo").problems) == [("", 1, 1, Code.TOO_MANY_FILES)]


def test_a_tree_beyond_its_size_is_not_looked_at():
    files = [entry(f"state/ui/{n}", size=MAX_ASSET_BYTES) for n in range(11)]
    assert places(validate(Listed(*files), "demo").problems) == [("", 1, 1, Code.TREE_TOO_LARGE)]


def test_definitions_beyond_their_size_are_not_looked_at():
    files = [entry(f"state/_jit_code/{n}.py", size=MAX_DEFINITION_BYTES) for n in range(17)]
    assert places(validate(Listed(*files), "demo").problems) == [("", 1, 1, Code.TREE_TOO_LARGE)]


def test_an_empty_tree_lacks_both_files():
    assert places(validate(tree(), "demo").problems) == [
        ("state/app_definition.yaml", 1, 1, Code.MISSING_FILE),
        ("state/component_registry.yaml", 1, 1, Code.MISSING_FILE),
    ]


def test_a_folder_is_read_as_git_sees_it(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("secret")
    (tmp_path / "state").mkdir()
    (tmp_path / "state/a.txt").write_text("hello\n")
    (tmp_path / "state/run").write_text("")
    (tmp_path / "state/run").chmod(0o755)
    (tmp_path / "state/link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    source = DirectorySource(tmp_path)
    assert source.entries() == [
        TreeEntry("pipe", 0o010000, "", 0),
        TreeEntry("state/a.txt", 0o100644, "ce013625030ba8dba906f756967f9e9ca394464a", 6),
        TreeEntry("state/link", 0o120000, "", 4),
        TreeEntry("state/run", 0o100755, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", 0),
    ]
    assert source.read(source.entries()[1]) == b"hello\n"
