"""Debian packages that an image has beyond the base, as a tar of their files.

The host's apt fetches and verifies them, as it does for the base, and works out what the base lacks from the
base's own list of packages. Nothing is installed on the host; no package's scripts are run, so this serves
for programs and libraries, not for services. Needs no root.
"""

import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .debian_base import BaseUnavailable, Progress

STATUS = "/var/lib/dpkg/status"
"""Where an image of Debian lists its packages."""


def recipe() -> bytes:
    """What the files depend on, beside the names of the packages: this module."""
    return Path(__file__).read_bytes()


def make(archive: Path, packages: Sequence[str], status: Path, progress: Progress) -> None:
    """Write the tar of what `packages` add to a base whose list of packages is the file `status`.

    Raises BaseUnavailable.
    """
    with tempfile.TemporaryDirectory(prefix="uhlp-packages-") as folder:
        root, cache = Path(folder) / "root", Path(folder) / "cache"
        root.mkdir()
        (cache / "partial").mkdir(parents=True)
        progress(f"fetching {', '.join(packages)} and what they need")
        _run(
            [
                *("apt-get", "--quiet", "--assume-yes", "--download-only", "--no-install-recommends"),
                *("-o", f"Dir::State::status={status}", "-o", f"Dir::Cache::archives={cache}"),
                # Nothing of the host is changed, so its lock is not needed; and no user of apt's own, which
                # could not write here.
                *("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"),
                *("install", *packages),
            ]
        )
        for package in sorted(cache.glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(package), str(root)])
        with tarfile.open(archive, "w") as tar:
            tar.add(root, arcname=".", filter=_neutral)


def _neutral(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """An entry that does not tell who built it; None for what nobody reads in a sandbox."""
    if entry.name.startswith(("./usr/share/doc", "./usr/share/man")):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError:
        raise BaseUnavailable(f"packages for an image need {command[0]}; this host is no Debian") from None
    if done.returncode:
        told = (done.stderr or done.stdout)[-500:].strip()
        raise BaseUnavailable(f"{command[0]} failed (exit code {done.returncode}); `apt-get update`? {told}")
