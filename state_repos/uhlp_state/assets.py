"""Where the files that ship with the package lie: schemas, templates, examples, MCP servers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["schemas", "templates", "examples", "mcp_servers"]


def assets_folder(kind: Kind) -> Path:
    """The folder of one kind of assets.

    A wheel carries them inside the package; in a checkout they lie beside it.
    """
    package = Path(__file__).parent
    packed = package / "_assets" / kind
    return packed if packed.is_dir() else package.parent / kind
