"""Searches everything that a platform has written for what must never be written."""

import base64
import logging
import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

SHORTEST = 16
"""Bytes: what is shorter may stand somewhere by chance."""

_FORMAT = logging.Formatter("%(message)s")


def own_secrets(home: Path) -> list[bytes]:
    """What the platform itself keeps secret: every file of its `secrets` folder, also as text."""
    found = []
    for path in sorted((home / "secrets").iterdir()):
        content = path.read_bytes()
        found += [content.strip()]
        if not content.isascii():
            found += [content.hex().encode(), base64.b64encode(content).rstrip(b"=")]
    return [secret for secret in found if len(secret) >= SHORTEST]


def traces(folders: Iterable[Path], secrets: Collection[bytes]) -> list[str]:
    """The files, and the repos, in which any of the secrets stands; a home's `secrets` folder aside."""
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and path.parent.name != "secrets":
                content = path.read_bytes()
                found += [str(path) for secret in secrets if secret in content]
        for repo in sorted(folder.glob("**/repos/*.git")):
            objects = subprocess.run(
                ["git", "-C", str(repo), "cat-file", "--batch-all-objects", "--batch"],
                capture_output=True,
                check=False,  # One that is no repo (any more) has files, which were read.
            ).stdout
            found += [f"{repo} (an object)" for secret in secrets if secret in objects]
    return found


async def traces_in_redis(redis: Any, secrets: Collection[bytes]) -> list[str]:
    """The keys whose name or value holds any of the secrets. The server must not compress what it dumps."""
    kept = {name: await redis.dump(name) or b"" for name in await redis.keys()}
    return [str(name) for name, value in kept.items() if any(secret in name + value for secret in secrets)]


def traces_in_log(records: Iterable[logging.LogRecord], secrets: Collection[bytes]) -> list[str]:
    """The lines logged, with their fields and tracebacks, that hold any of the secrets."""
    lines = [f"{record.name}: {_FORMAT.format(record)} {vars(record)}" for record in records]
    return [line for line in lines if any(secret in line.encode(errors="replace") for secret in secrets)]
