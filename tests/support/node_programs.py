"""Programs of the npm registry that tests let loose on a server; installed once per lock file."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

REQUIRED = "UHLP_REQUIRE_MCP_CONFORMANCE"
"""Set to 1, a missing program is installed, and what cannot be installed fails the tests."""

MANIFESTS = Path(__file__).parent.parent / "mcp" / "conformance"


@cache
def programs() -> Path:
    """The folder with the programs; skips the test if they are not installed and need not be."""
    lock = (MANIFESTS / "package-lock.json").read_bytes()
    folder = Path(tempfile.gettempdir()) / f"uhlp-mcp-conformance-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not folder.exists():
        if os.environ.get(REQUIRED) != "1":
            pytest.skip(f"the conformance suite is not installed; {REQUIRED}=1 installs it with npm")
        install(MANIFESTS, folder)
    return folder / "node_modules" / ".bin"


def run(program: str, *arguments: str, seconds: float = 100) -> "subprocess.CompletedProcess[str]":
    """Run a program under the Node that it comes with."""
    path = programs()
    # A home of its own: the inspector keeps a catalogue there.
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "HOME": str(path.parent)}
    return subprocess.run(
        [path / program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
    )


def install(manifests: Path, folder: Path) -> None:
    """Install what a lock file names next to the place, and move in: who finds the folder finds all of it."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as name:
        made = Path(name) / "made"
        made.mkdir()
        for file in ("package.json", "package-lock.json"):
            shutil.copy(manifests / file, made / file)
        command = [
            "npm",
            "ci",
            "--omit-lockfile-registry-resolved",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ]
        subprocess.run(command, cwd=made, check=True, capture_output=True, timeout=300)
        if not folder.exists():
            made.rename(folder)
