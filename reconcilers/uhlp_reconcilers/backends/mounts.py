"""Whether what a pool mounts is, on this machine and now, what its allowed path says.

The platform's list is a matter of names (`uhlp_state.model.mounts`); what lies behind a name is looked at
here, each time before a container is made.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from uhlp_state.model.mounts import Mount

from .protocol import BackendError


def check_mounts(mounts: Iterable[Mount], home: Path) -> None:
    """Raise BackendError for a source that is missing, or leads to what must not be mounted."""
    for mount in mounts:
        reason = _objection(mount.source, Path(os.path.realpath(home)))
        if reason is not None:
            raise BackendError(
                f"the mount {mount.source}:{mount.target} is refused: {reason}; mend it on the host, or "
                "remove it from the pool's volumeMounts"
            )


def _objection(source: str, home: Path) -> str | None:
    real = os.path.realpath(source)
    if real != source:
        # Whoever made the link would decide what is mounted, and not the operator's list.
        return f"its path has a symbolic link and leads to {real}; allow and mount that path"
    try:
        mode = Path(source).lstat().st_mode
    except OSError as error:
        return f"{source}: {error.strerror}"
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        return f"{source} is neither a folder nor a regular file"
    if home.is_relative_to(source) or Path(source).is_relative_to(home):
        return f"it reaches {home}, where the platform keeps its secrets and other apps' state"
    return None
