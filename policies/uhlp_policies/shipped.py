"""The policies that ship with the platform, by name; the platform repo says which are in force."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from uhlp_state.model.policies import Policy


@cache
def shipped_policy(name: str) -> Policy:
    """`secrets` or `personal-data`. Raises OSError if it is not there."""
    return Policy.model_validate(yaml.safe_load((_folder() / f"{name}.yaml").read_bytes()))


def _folder() -> Path:
    """A wheel carries them inside the package; in a checkout they lie beside it."""
    packed = Path(__file__).parent / "_assets"
    return packed if packed.is_dir() else Path(__file__).parent.parent / "default"
