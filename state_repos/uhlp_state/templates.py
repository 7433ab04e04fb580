"""Starting points for `uhlp app create`: the files of a new app, with its id filled in."""

from __future__ import annotations

from pathlib import Path

from uhlp_state.assets import assets_folder
from uhlp_state.problems import did_you_mean

PLACEHOLDER = b"{{ app }}"
"""Stands for the app's id in a template's files."""

_BY_PRODUCTS = {"__pycache__", ".pytest_cache"}
"""Folders that running a template's tests leaves behind in a checkout."""


class UnknownTemplate(LookupError):
    """There is no template of this name."""

    def __init__(self, name: str) -> None:
        known = list_templates()
        remedy = did_you_mean(name, known, f"use one of {', '.join(known)}")
        super().__init__(f"there is no template {name!r}: {remedy}")


def list_templates() -> list[str]:
    """Names of all templates, sorted."""
    return sorted(folder.name for folder in assets_folder("templates").iterdir() if folder.is_dir())


def render_template(name: str, app: str) -> dict[str, bytes]:
    """The files of a new app by path, from the template `name`.

    Raises:
        UnknownTemplate: there is none of this name.
    """
    if name not in list_templates():
        raise UnknownTemplate(name)
    root = assets_folder("templates") / name
    return {
        path.relative_to(root).as_posix(): path.read_bytes().replace(PLACEHOLDER, app.encode())
        for path in sorted(root.rglob("*"))
        if path.is_file() and not _is_by_product(path.relative_to(root))
    }


def _is_by_product(path: Path) -> bool:
    return not _BY_PRODUCTS.isdisjoint(path.parts)
