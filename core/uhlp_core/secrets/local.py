"""The secrets of one data folder: one encrypted file in it, and the key that opens it elsewhere.

So a copy of the data folder, or a backup of it, tells nothing. Names are encrypted as well.
"""

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from uhlp_core.errors import InvalidInput
from uhlp_core.secrets.names import check_name

MAX_VALUE_BYTES = 64 * 1024
"""Of one secret: a key file or a certificate fits."""

ALL_APPS = "*"
"""Stands for every app, those that do not exist yet included."""

KEY_CREDENTIAL = "uhlp-secrets-key"
"""The systemd credential that holds the key, which is then read from no file."""


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """What may be shown of a secret."""

    app: str
    """The app that may use it, or `*`."""
    name: str
    updated_at: float
    """Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class _Entry:
    value: str
    updated: float


class LocalSecrets:
    """Reads and changes the file; every change is whole or not at all, also under `kill -9`."""

    def __init__(self, file: Path, key_file: Path) -> None:
        self._file = file
        self._key_file = key_file
        self._read: tuple[tuple[int, int], dict[str, dict[str, _Entry]]] | None = None

    def find(self, app: str, name: str) -> str | None:
        """The app's own secret of this name, else the one for all apps. Raises InvalidInput, OSError."""
        entries = self._entries()
        for owner in (app, ALL_APPS):
            if found := entries.get(owner, {}).get(name):
                return found.value
        return None

    def list(self) -> list[StoredSecret]:
        """Every secret without its value, by app and name. Raises InvalidInput, OSError."""
        return [
            StoredSecret(app, name, entry.updated)
            for app, named in sorted(self._entries().items())
            for name, entry in sorted(named.items())
        ]

    def set(self, app: str, name: str, value: str) -> None:
        """Store a value, in place of an earlier one. Raises InvalidInput, OSError."""
        check_name(name)
        if not value:
            raise InvalidInput(f"the secret {name} is empty; give it on standard input")
        if len(value.encode()) > MAX_VALUE_BYTES:
            raise InvalidInput(f"the secret {name} is longer than {MAX_VALUE_BYTES} bytes")
        with self._changing() as entries:
            entries.setdefault(app, {})[name] = _Entry(value, time.time())

    def delete(self, app: str, name: str) -> bool:
        """Remove a secret; False if there was none. Raises InvalidInput, OSError."""
        with self._changing() as entries:
            return entries.get(app, {}).pop(name, None) is not None

    def delete_all(self, app: str) -> None:
        """Remove every secret of the app's own. Raises InvalidInput, OSError."""
        if app in self._entries():
            with self._changing() as entries:
                entries.pop(app, None)

    def _entries(self) -> dict[str, dict[str, _Entry]]:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return {}
        # Every change replaces the file, so it has another inode or time then.
        version = (found.st_ino, found.st_mtime_ns)
        if self._read is None or self._read[0] != version:
            self._read = (version, self._decrypted())
        return self._read[1]

    def _decrypted(self) -> dict[str, dict[str, _Entry]]:
        try:
            plain = self._cipher(make=False).decrypt(self._file.read_bytes())
        except InvalidToken:
            raise InvalidInput(
                f"{self._file} was not encrypted with the key in {self._key_source()}; bring the right key "
                "back, or remove the file and set the secrets again"
            ) from None
        return {
            app: {name: _Entry(**entry) for name, entry in named.items()}
            for app, named in json.loads(plain).items()
        }

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, dict[str, _Entry]]]:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = {app: dict(named) for app, named in self._entries().items()}
            yield entries
            kept = {app: named for app, named in entries.items() if named}
            plain = {
                app: {name: asdict(entry) for name, entry in named.items()} for app, named in kept.items()
            }
            _replace(self._file, self._cipher(make=True).encrypt(json.dumps(plain).encode()))

    def _cipher(self, *, make: bool) -> Fernet:
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        with contextlib.suppress(FileNotFoundError):
            if credentials:
                return self._fernet((Path(credentials) / KEY_CREDENTIAL).read_bytes())
        try:
            return self._fernet(self._key_file.read_bytes())
        except FileNotFoundError:
            if not make or self._file.exists():
                raise InvalidInput(
                    f"{self._key_file} is missing, the key of {self._file}; bring it back, or remove the "
                    "encrypted file and set the secrets again"
                ) from None
        self._key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            # Linked into place when it is whole, and never over another's: two homes may share the key.
            _replace(self._key_file, Fernet.generate_key(), over=False)
        return self._fernet(self._key_file.read_bytes())

    def _fernet(self, key: bytes) -> Fernet:
        try:
            return Fernet(key.strip())
        except ValueError:
            raise InvalidInput(
                f"{self._key_source()} does not hold a key: 32 bytes in URL-safe Base64"
            ) from None

    def _key_source(self) -> str:
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if credentials and (Path(credentials) / KEY_CREDENTIAL).exists():
            return f"the systemd credential {KEY_CREDENTIAL}"
        return str(self._key_file)


def _replace(path: Path, content: bytes, *, over: bool = True) -> None:
    """Write a file whole, for its owner only. Raises FileExistsError if it is there and not `over`."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if over:
            Path(draft).replace(path)
        else:
            os.link(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)
