"""Which deployment a request is for, by host name or by path."""

from typing import NamedTuple

PATH_PREFIX = "/apps/"
PREVIEW_SEPARATOR = "--"


class Target(NamedTuple):
    """A deployment and the path inside it."""

    deployment: str
    path: str
    """Raw, with query, as the app sees it; empty for `/apps/<app>`, which lacks its slash."""
    prefix: str
    """What was taken off the path: `/apps/<app>`, or nothing on an app's own host."""


class Resolver:
    """Reads host names under one domain."""

    __slots__ = ("_suffix",)

    def __init__(self, domain: str) -> None:
        self._suffix = f".{domain.lower()}"

    def resolve(self, host: str, target: str) -> Target | None:
        """The deployment asked for, or None for the platform's own bare host."""
        label = self._label(host)
        if label is not None:
            return Target(label, target, "")
        if target.startswith(PATH_PREFIX):
            end = len(target)
            for separator in "/?":
                found = target.find(separator, len(PATH_PREFIX))
                if found != -1:
                    end = min(end, found)
            path = target[end:]
            name = target[len(PATH_PREFIX) : end].replace("%40", "@")
            return Target(name, path if path.startswith("/") else "", target[:end])
        return None

    def _label(self, host: str) -> str | None:
        name = host.lower()
        colon = name.rfind(":")
        if colon != -1:
            name = name[:colon]
        if name.endswith("."):
            name = name[:-1]
        if not name.endswith(self._suffix):
            return None
        label = name[: -len(self._suffix)]
        preview, separator, app = label.partition(PREVIEW_SEPARATOR)
        return f"{app}@{preview}" if separator else label
