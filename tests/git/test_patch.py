"""Diffs and merges of one file: examples, and properties over random texts."""

import difflib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git.git_world import Work
from uhlp_core.errors import Conflict
from uhlp_state.merge import merge_texts
from uhlp_state.patch import PatchError, apply_diff, split_lines

TEXT = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"

lines = st.lists(
    st.sampled_from(["", "a", "b", "b ", "c\r", "--- x", "+++ y", "@@ -1 +1 @@", "\\ z", "\u2028"])
)
texts = st.builds(lambda parts, end: "\n".join(parts) + end, lines, st.sampled_from(["", "\n"]))


def make_diff(old, new, context=3):
    """A unified diff with Git's mark for a missing line end."""
    made = []
    for line in difflib.unified_diff(split_lines(old), split_lines(new), "a/f", "b/f", n=context):
        made.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(made)


@given(texts, texts, st.integers(0, 4))
def test_applying_a_diff_gives_the_new_text(old, new, context):
    if old != new:
        assert apply_diff(make_diff(old, new, context), old) == new


@given(texts, texts, texts, texts)
def test_a_diff_fits_or_is_refused(old, new, other, prefix):
    try:
        apply_diff(prefix + make_diff(old, new), other)
    except PatchError as error:
        assert str(error)


pieces = ["@@ -1,2 +1,2 @@\n", "@@ -0,0 +1 @@\n", "--- a\n", "+++ b\n", "+x\n", "-x\n", " x\n", "\\ N\n"]


@given(st.text() | st.lists(st.sampled_from(pieces)).map("".join))
def test_garbage_is_only_ever_refused(garbage):
    for original in (None, "", "x\ny\n"):
        try:
            apply_diff(garbage, original)
        except PatchError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a\nb\n", "a\nc\n"),
        ("a\nb", "a\nb\n"),
        ("a\nb\n", "a\nb"),
        ("a", "b"),
        ("a\r\nb\r\n", "a\r\nc\r\n"),
        ("", "a\n"),
        ("".join(f"{n}\n" for n in range(40)), "".join(f"{n}\n" for n in range(40) if n not in (3, 30))),
    ],
)
def test_diffs_made_by_git(tmp_path, old, new):
    work = Work(tmp_path)
    work.git("init", "--quiet", "--initial-branch=main")
    work.commit({"f": old})
    (tmp_path / "f").write_bytes(new.encode())
    # As bytes: reading text would turn CRLF into LF.
    diff = subprocess.run(["git", "diff"], cwd=tmp_path, capture_output=True, check=True).stdout.decode()
    assert apply_diff(diff, old) == new


def test_files_come_and_go():
    assert apply_diff("--- /dev/null\n+++ b/f\n@@ -0,0 +1,2 @@\n+a\n+b\n", None) == "a\nb\n"
    assert apply_diff("--- a/f\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n", "a\nb\n") is None
    assert apply_diff("diff --git a/f b/f\nnew file mode 100644\nindex 0..e\n", None) == ""


def test_a_hunk_is_found_where_it_has_moved_to():
    diff = make_diff(TEXT, TEXT.replace("five", "5"), 1)
    assert apply_diff(diff, "zero\nzero\n" + TEXT) == "zero\nzero\n" + TEXT.replace("five", "5")
    assert apply_diff(diff, TEXT.removeprefix("one\ntwo\n")) == TEXT.removeprefix("one\ntwo\n").replace(
        "five", "5"
    )


def test_all_hunks_share_the_drift_and_the_nearest_place_wins():
    old = "a\nx\nb\n" * 3
    diff = "@@ -4,3 +4,3 @@\n a\n-x\n+y\n b\n"
    assert apply_diff(diff, old) == "a\nx\nb\na\ny\nb\na\nx\nb\n"
    assert apply_diff(diff, "0\n" + old) == "0\na\nx\nb\na\ny\nb\na\nx\nb\n"


@pytest.mark.parametrize(
    ("diff", "original", "told"),
    [
        ("", "a\n", "holds no hunk"),
        ("@@ -1 +1 @@\n-x\n+y\n", "a\n", "hunk 1 does not fit: line 1 should be 'x\\n', found 'a\\n'"),
        ("@@ -1,2 +1,2 @@\n a\n-x\n+y\n", "a\n", "line 2 should be 'x\\n', found the end of the file"),
        ("@@ -1 +1 @@\n-a\n+b\n@@ -3 +3 @@\n-x\n+y\n", "a\nb\nc\n", "hunk 2 does not fit: line 3"),
        ("@@ -1,2 +1,2 @@\n-a\n+b\n", "a\n", "hunk 1 ends early: its @@ line promises 2 old and 2 new"),
        ("@@ -1 +1 @@\n-a\n+b\n+c\n", "a\n", "line 4 of the diff comes after the end of hunk 1"),
        ("@@ nonsense\n", "a\n", "hunk 1: '@@ nonsense' is not like"),
        ("@@ -1 +1 @@\n*a\n", "a\n", "line 2 of the diff starts with '*'"),
        ("@@ -9,0 +10 @@\n+a\n", "a\n", "adds lines after line 9, but the file has 1 lines"),
        ("--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b\n--- c\n+++ d\n@@ -1 +1 @@\n-a\n+b\n", "a\n", "second file"),
        ("--- /dev/null\n+++ b\n@@ -0,0 +1 @@\n+a\n", "b\n", "creates the file, but there is one already"),
        ("@@ -1 +1 @@\n-a\n+b\n", None, "changes a file that does not exist"),
        ("--- a\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n", "a\nb\n", "1 of its lines would be left"),
        ("GIT binary patch\n", "a\n", "binary change"),
        ("rename from a\nrename to b\n", "a\n", "renames a file"),
        ("@@ -1,0 +2 @@\n+b\n", "a", "after one that has no line end"),
    ],
)  # fmt: skip
def test_errors_say_where_and_what(diff, original, told):
    with pytest.raises(PatchError) as caught:
        apply_diff(diff, original)
    assert told in str(caught.value)


@pytest.mark.timeout(20)
def test_a_diff_made_to_be_slow_is_given_up():
    text = "a\n" * 500_000
    diff = "".join(f"@@ -{start},2 +{start},2 @@\n a\n-b\n+c\n" for start in range(1, 1000))
    with pytest.raises(PatchError):
        apply_diff(diff, text)


def test_both_changes_survive_a_merge():
    mine, theirs = TEXT.replace("two", "2"), TEXT.replace("six", "6")
    assert merge_texts(TEXT, mine, theirs) == TEXT.replace("two", "2").replace("six", "6")


def test_a_conflict_names_the_line_and_both_wishes():
    with pytest.raises(
        Conflict, match="line 2 has been changed to 'zwei' meanwhile, where this change wants '2'"
    ):
        merge_texts(TEXT, TEXT.replace("two", "2"), TEXT.replace("two", "zwei"))


@given(texts, texts)
def test_one_change_alone_wins(base, changed):
    assert merge_texts(base, changed, base) == merge_texts(base, base, changed) == changed
    assert merge_texts(base, changed, changed) == changed


@given(texts, texts, texts)
def test_merging_is_the_same_both_ways(base, mine, theirs):
    def merged(*sides):
        try:
            return merge_texts(*sides)
        except Conflict:
            return None

    assert merged(base, mine, theirs) == merged(base, theirs, mine)


@given(st.lists(st.integers(0, 99), min_size=4, max_size=30, unique=True), st.data())
def test_changes_of_lines_apart_never_conflict(numbers, data):
    """One changes a line in the first half, the other in the second, with an unchanged line between."""
    base = [f"{number}\n" for number in numbers]
    half = len(base) // 2
    mine, theirs, both = list(base), list(base), list(base)
    first, second = data.draw(st.integers(0, half - 1)), data.draw(st.integers(half + 1, len(base) - 1))
    mine[first] = both[first] = "mine\n"
    theirs[second] = both[second] = "theirs\n"
    assert merge_texts("".join(base), "".join(mine), "".join(theirs)) == "".join(both)
