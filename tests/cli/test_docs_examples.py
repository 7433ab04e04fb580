"""What the guides show can be pasted into an app as `uhlp app create` makes it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.support import Clone, Uhlp

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"^# state/(\S+)\n", re.MULTILINE)


LANGUAGES = {".json": "json", ".py": "python", ".mjs": "js"}


def shown(page: str) -> dict[str, str]:
    """The files of an app that a page shows under their names, in its fences of YAML."""
    found: dict[str, str] = {}
    for language, content in FENCE.findall((DOCS / page).read_text()):
        if language == "yaml":
            names = FILE.split(content)[1:]
            found |= dict(zip(names[::2], names[1::2], strict=True))
    return found


def code(page: str, language: str) -> str:
    """The first fence in a language."""
    return next(content for kind, content in FENCE.findall((DOCS / page).read_text()) if kind == language)


def paste(app: Path, files: dict[str, str]) -> None:
    """Put files below `state/`: what is a list or mapping there already is added to."""
    for name, content in files.items():
        path = app / "state" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            content = yaml.safe_dump(_added(yaml.safe_load(path.read_text()), yaml.safe_load(content)))
        path.write_text(content)


def _added(there: Any, new: Any) -> Any:
    if isinstance(there, list):
        return there + new
    if isinstance(there, dict):
        return there | {key: _added(there[key], new[key]) if key in there else new[key] for key in new}
    return new


ORDERS = "def orders(input, context): ...\n"


@pytest.mark.parametrize(
    ("page", "name", "content"),
    [
        ("prompts.md", "schemas/interaction.json", None),
        ("handlers.md", "_jit_code/notes/v1/handler.py", None),
        ("node.md", "_jit_code/notes/v1/handler.mjs", None),
        ("api-keys.md", "_jit_code/orders/v1/handler.py", ORDERS),
    ],
)
def test_what_a_guide_shows_is_valid_in_a_new_app(
    uhlp: Uhlp, tmp_path: Path, page: str, name: str, content: str | None
) -> None:
    """The page's YAML, and its first fence in the language of one other file, unless that has a content."""
    uhlp("app", "create", "hello")
    app = Clone(uhlp, "hello", tmp_path / "hello").folder
    files = shown(page)
    assert "component_registry.yaml" in files
    paste(app, {**files, name: content or code(page, LANGUAGES[Path(name).suffix])})
    assert uhlp.json("validate", str(app)) == {"valid": True, "app": "hello", "problems": []}
