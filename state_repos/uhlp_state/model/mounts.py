"""Volume mounts (specification 3.1.2, volumeMounts): what of the host a pool's containers see.

Only the form is judged here, and what no mount may ever name; who may mount what, the platform's list says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Self

from pydantic import AfterValidator

from uhlp_state.model.base import Name, refusal
from uhlp_state.problems import Code, quoted

CLOSED_SOURCES = tuple(
    map(
        PurePosixPath,
        (
            *("/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var/run"),
            *("/var/lib/containerd", "/var/lib/docker"),
        ),
    )
)
"""Of the host never mounted, nor anything below or around: the kernel's doors, engines' sockets and data,
accounts. Around them is `/` as well."""

CLOSED_TARGETS = tuple(
    map(
        PurePosixPath,
        (
            *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/opt/uhlp", "/proc", "/root", "/run"),
            *("/sbin", "/sys", "/tmp", "/uhlp", "/usr", "/var/run"),  # noqa: S108 - a name, not a file
        ),
    )
)
"""Of a container never covered: what it runs on, and what its own protection rests on."""

_FORM = "write it as /host/folder:/container/folder, with :rw behind it if handlers are to write there"


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount, as `host:container[:ro|rw]` says it."""

    source: str
    """Absolute path on the host."""
    target: str
    """Absolute path in the container."""
    writable: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, whose text says what is wrong, for what is no mount or can never be one."""
        source, _, rest = text.partition(":")
        target, _, mode = rest.partition(":")
        if mode not in ("", "ro", "rw"):
            raise ValueError(f"{quoted(mode)} is neither ro nor rw")
        _check(source, CLOSED_SOURCES, "of the host")
        _check(target, CLOSED_TARGETS, "in a container")
        return cls(source, target, mode == "rw")

    def allows(self, other: Mount) -> bool:
        """Whether who may mount this may mount `other`: the same, or the same for reading only."""
        same = (self.source, self.target) == (other.source, other.target)
        return same and (self.writable or not other.writable)

    def endangers(self, other: Mount) -> bool:
        """Whether who may write here could replace a part of the other's path by a symbolic link."""
        inside = PurePosixPath(other.source).is_relative_to(self.source)
        return self.writable and inside and other.source != self.source


def _check(path: str, closed: tuple[PurePosixPath, ...], where: str) -> None:
    parts = path.split("/")
    if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
        raise ValueError(f"{quoted(path)} is not an absolute path without `.`, `..`, or empty parts")
    if not path.isprintable():
        raise ValueError(f"{quoted(path)} has control characters")
    for one in closed:
        if _meet(PurePosixPath(path), one):
            raise ValueError(f"{quoted(path)} {where} is never mounted: it reaches {one}")


def _meet(path: PurePosixPath, other: PurePosixPath) -> bool:
    return path.is_relative_to(other) or other.is_relative_to(path)


def _check_mount(text: str) -> str:
    try:
        Mount.parse(text)
    except ValueError as error:
        raise refusal(Code.BAD_MOUNT, f"{quoted(text)} is no mount: {error}", _FORM) from None
    return text


MountText = Annotated[Name, AfterValidator(_check_mount)]
"""A mount as it is written."""
