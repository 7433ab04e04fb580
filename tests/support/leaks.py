"""Searches everything that a platform has written for what must never be written."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

SHORTEST = 16
"""Characters: what is shorter may stand somewhere by chance."""


def own_secrets(home: Path) -> list[str]:
    """What the platform itself keeps secret: every file of its `secrets` folder, as text."""
    found = []
    for path in sorted((home / "secrets").iterdir()):
        text = path.read_bytes().decode(errors="replace").strip()
        if len(text) >= SHORTEST:
            found.append(text)
    return found


def traces(folders: Iterable[Path], secrets: Iterable[str]) -> list[str]:
    """The files, and the repos, in which any of the secrets stands; a home's `secrets` folder aside."""
    sought = [secret.encode() for secret in secrets]
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and path.parent.name != "secrets":
                content = path.read_bytes()
                found += [str(path) for secret in sought if secret in content]
        for repo in sorted(folder.glob("repos/*.git")):
            objects = subprocess.run(
                ["git", "-C", str(repo), "cat-file", "--batch-all-objects", "--batch"],
                capture_output=True,
                check=False,  # One that is no repo (any more) has files, which were read.
            ).stdout
            found += [f"{repo} (an object)" for secret in sought if secret in objects]
    return found
