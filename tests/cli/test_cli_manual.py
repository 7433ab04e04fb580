"""The manual and the examples say what is true: generated pages are current, links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from uhlp_cli.examples import TEMPLATE_APP
from uhlp_cli.main import COMMANDS, cli
from uhlp_cli.reference import PAGES, render
from uhlp_state.assets import assets_folder
from uhlp_state.tree_source import DirectorySource
from uhlp_state.validate import validate

ROOT = Path(__file__).parents[2]
EXAMPLES = [path for path in assets_folder("examples").iterdir() if path.is_dir()]


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_current(page: str) -> None:
    committed = (ROOT / "docs" / f"{page}.md").read_text()
    assert committed == render(page), "run: make docs"


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_the_manual_names_only_commands_that_exist(page: Path) -> None:
    for name in re.findall(r"(?:^|`|\$ )uhlp ([a-z]+)", page.read_text(), re.MULTILINE):
        assert name in COMMANDS, f"{page.name} names `uhlp {name}`"


def test_summaries_are_those_of_the_commands_own_help() -> None:
    for name, entry in COMMANDS.items():
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None, name
        assert entry.summary.endswith(".")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid(example: Path) -> None:
    assert validate(DirectorySource(example), example.name).problems == ()


@pytest.mark.parametrize(
    "folder", sorted({path.parent for one in EXAMPLES for path in one.rglob("test_*.py")})
)
def test_an_examples_own_tests_pass(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-m", "unittest"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_notes_page_works_below_any_path() -> None:
    ui = assets_folder("examples") / "notes/state/ui"
    page = (ui / "index.html").read_text()
    references = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert references
    assert not [reference for reference in references if reference.startswith("/")]
    assert "fetch(`api/" in (ui / "notes.js").read_text()


def test_the_template_app_and_the_examples_do_not_collide() -> None:
    assert TEMPLATE_APP not in {example.name for example in EXAMPLES}
