"""The base of images where no registry can be reached: a minimal Debian, made from the host's own mirror.

Needs root, a host of the Debian family and `debootstrap`. Where the packages come from, and how they are
verified, is the host's apt configuration and nothing else.
"""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uhlp_core.errors import UhlpError

PACKAGES = ("python3",)
"""What the base has beyond Debian's `minbase`."""

OPTIONAL_PACKAGES = ("python3-orjson",)
"""What it has as well where the release knows it: the runner is faster with it."""

WORK_FOLDER = "/var/tmp"  # noqa: S108 - a folder of its own is made in it; /tmp may forbid device nodes
"""Where the root file system grows: about 300 MB."""

_REMOVED = (
    "etc/apt/sources.list",
    "etc/hostname",
    "etc/resolv.conf",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
)
"""What nobody reads in a sandbox, or what tells of the host."""

Progress = Callable[[str], None]


class BaseUnavailable(UhlpError):
    """This host cannot make the base; the text says what it lacks."""

    code = "IMAGE_BASE_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class _Source:
    """One suite of packages that the host's apt uses."""

    mirror: str
    suite: str


def recipe() -> bytes:
    """What the base depends on: this module, and nothing that differs from one build to the next."""
    return Path(__file__).read_bytes()


def make(archive: Path, progress: Progress) -> None:
    """Write the tar of the base's root file system. Raises BaseUnavailable."""
    release = _release()
    sources = _sources(release)
    with tempfile.TemporaryDirectory(prefix="uhlp-base-", dir=WORK_FOLDER) as folder:
        root = Path(folder) / "root"
        _bootstrap(root, release, sources, progress)
        _upgrade(root, sources, progress)
        _strip(root)
        progress("packing")
        _run(["tar", "-C", str(root), "--numeric-owner", "-cf", str(archive), "."], progress=None)


def _release() -> str:
    """The code name of the host's release, which is the base's as well."""
    if os.geteuid() != 0:
        raise BaseUnavailable(
            "making the base image needs root; run `uhlp images build` as root, or bring the image from "
            "another machine with `docker save` and `docker load`"
        )
    if shutil.which("debootstrap") is None:
        raise BaseUnavailable("making the base image needs debootstrap; `apt-get install debootstrap`")
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    if not release:
        raise BaseUnavailable("/etc/os-release has no VERSION_CODENAME; this needs a release of Debian")
    return release


def _sources(release: str) -> list[_Source]:
    """The release's own suites, updates and security fixes included, in the order that apt has them."""
    wanted = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]
    listed = _run([*wanted, "Created-By: Packages"], progress=None)
    rows = dict.fromkeys(tuple(line.split()) for line in listed.splitlines())
    sources = [
        _Source(mirror, suite)
        for mirror, suite, component in rows
        if component == "main" and suite in (release, f"{release}-updates", f"{release}-security")
    ]
    if release not in {source.suite for source in sources}:
        raise BaseUnavailable(f"apt knows no source of {release}; add one to /etc/apt, then `apt-get update`")
    return sources


def _bootstrap(root: Path, release: str, sources: list[_Source], progress: Progress) -> None:
    mirror = next(source.mirror for source in sources if source.suite == release)
    packages = [*PACKAGES, *(name for name in OPTIONAL_PACKAGES if _is_known(name))]
    include = f"--include={','.join(packages)}"
    _run(["debootstrap", "--variant=minbase", include, release, str(root), mirror], progress)


def _is_known(package: str) -> bool:
    found = subprocess.run(["apt-cache", "show", package], capture_output=True)
    return found.returncode == 0


def _upgrade(root: Path, sources: list[_Source], progress: Progress) -> None:
    lines = [f"deb {source.mirror} {source.suite} main\n" for source in sources]
    (root / "etc/apt/sources.list").write_text("".join(lines))
    apt = ["chroot", str(root), "apt-get", "--quiet", "--assume-yes"]
    _run([*apt, "update"], progress)
    _run([*apt, "--no-install-recommends", "dist-upgrade"], progress)


def _strip(root: Path) -> None:
    for name in _REMOVED:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            path.mkdir()
        else:
            path.unlink(missing_ok=True)


def _run(command: list[str], progress: Progress | None) -> str:
    """Run a program and return what it printed, each line told as it comes. Raises BaseUnavailable."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    lines = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if progress:
                progress(line.strip().removeprefix("I: "))
    if process.returncode:
        told = "".join(lines[-5:]).strip()
        raise BaseUnavailable(f"{command[0]} failed (exit code {process.returncode}): {told}")
    return "".join(lines)
