"""Which user id belongs to which app, where the daemon is root and gives each app its own.

An id follows from the file's place and the app's name, so that apps of one name on two platforms of a machine
do not share a user (its processes are counted together), and a lost file changes nothing but the rare
collision. The file remembers who got which.
"""

import hashlib
import json
from pathlib import Path

from .protocol import BackendError

UID_FIRST = 200_000
UID_COUNT = 60_000
"""Between what distributions give to people and to containers' subordinate ids."""

PROBE_UID = UID_FIRST + UID_COUNT
"""Nobody's: of a runner that is started only to see what protection there is."""

INSTALLER_UID = PROBE_UID + 1
"""Of the processes that install packages: no app's, so that none can reach what another's are doing."""


class Users:
    """The file of a home's app users. Only the sandboxes daemon, of which there is one, writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def uid_of(self, app: str) -> int:
        """The app's user id, which is its group id as well. Raises BackendError."""
        known = self._read()
        if app in known:
            return known[app]
        taken = set(known.values())
        first = int.from_bytes(hashlib.sha256(f"{self._path}\0{app}".encode()).digest()[:8])
        for step in range(UID_COUNT):
            uid = UID_FIRST + (first + step) % UID_COUNT
            if uid not in taken:
                self._write(known | {app: uid})
                return uid
        raise BackendError(f"{self._path}: all {UID_COUNT} user ids are taken; remove apps that are gone")

    def _read(self) -> dict[str, int]:
        try:
            known: dict[str, int] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            # Not taken as empty: two apps would come to share a user.
            raise BackendError(f"{self._path}: cannot be read: {error}; mend or restore it") from error
        return known

    def _write(self, known: dict[str, int]) -> None:
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(known, indent=1))
        draft.replace(self._path)
