"""Where secrets may come from besides the data folder, one function each: None means "not here".

Each has one place for an app's own secret and another for one that all apps may use. Calls block.
"""

import http.client
import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from uhlp_core.errors import NotFound, Unavailable

VAULT_SECONDS = 5.0
SOPS_SECONDS = 20.0
"""`sops` may have to ask a key service."""

MAX_ANSWER_BYTES = 1024 * 1024

VAULT_FIELD = "value"
"""The field of a secret in Vault that is read."""


class SecretMissing(NotFound):
    """No source has this secret for this app; the text says how to set it."""

    code = "SECRET_MISSING"


class SecretsUnavailable(Unavailable):
    """A source of secrets cannot be asked at the moment."""

    code = "SECRETS_UNAVAILABLE"


def from_environment(app: str, name: str) -> str | None:
    """`UHLP_SECRET_<APP>__<NAME>`, else `UHLP_SHARED_SECRET_<NAME>`."""
    own, shared = environment_names(app, name)
    return os.environ.get(own) or os.environ.get(shared) or None


def environment_names(app: str, name: str) -> tuple[str, str]:
    """The variables of an app's own secret and of the one for all apps."""

    def upper(text: str) -> str:
        return text.upper().replace("-", "_")

    return f"UHLP_SECRET_{upper(app)}__{upper(name)}", f"UHLP_SHARED_SECRET_{upper(name)}"


def from_credentials(app: str, name: str) -> str | None:
    """A systemd credential: `secret.<app>.<name>`, else `shared-secret.<name>`."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    for file in (f"secret.{app}.{name}", f"shared-secret.{name}"):
        try:
            return (Path(folder) / file).read_text().rstrip("\n")
        except FileNotFoundError:
            continue
    return None


class Sops:
    """A file that SOPS has encrypted: `{apps: {<app>: {<name>: value}}, shared: {<name>: value}}`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read: tuple[int, dict[str, Any]] | None = None

    def find(self, app: str, name: str) -> str | None:
        """Raises SecretsUnavailable."""
        content = self._content()
        own = content.get("apps", {}).get(app, {}).get(name)
        found = own if own is not None else content.get("shared", {}).get(name)
        return None if found is None else str(found)

    def _content(self) -> dict[str, Any]:
        try:
            version = self._file.stat().st_mtime_ns
            if self._read is None or self._read[0] != version:
                self._read = (version, self._decrypted())
        except OSError as error:
            raise SecretsUnavailable(f"{self._file}: {error.strerror}") from None
        return self._read[1]

    def _decrypted(self) -> dict[str, Any]:
        try:
            done = subprocess.run(
                ["sops", "--decrypt", "--output-type", "json", str(self._file)],
                capture_output=True,
                timeout=SOPS_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise SecretsUnavailable(
                "the setting secrets_sops_file needs `sops` on the PATH; install it"
            ) from None
        except subprocess.TimeoutExpired:
            raise SecretsUnavailable(f"sops did not decrypt {self._file} within {SOPS_SECONDS:g} s") from None
        if done.returncode:
            # Only its last line: what it prints while it fails can hold parts of the file.
            told = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            raise SecretsUnavailable(f"sops cannot decrypt {self._file}: {told[0][:200]}")
        try:
            content = json.loads(done.stdout)
        except (ValueError, RecursionError):
            content = None
        if wrong := _wrong(content):
            raise SecretsUnavailable(f"{self._file}: {wrong}; mend it with `sops edit`")
        found: dict[str, Any] = content
        return found


def _wrong(content: object) -> str:
    """What in a SOPS file has not the shape that Sops names; empty if all has. Tells no value."""
    if not isinstance(content, dict):
        return "it must be a mapping with apps: and shared:"
    apps, shared = content.get("apps", {}), content.get("shared", {})
    if not isinstance(apps, dict):
        return "apps: must map each app to its secrets"
    for place, names in {"shared": shared, **{f"apps.{app}": names for app, names in apps.items()}}.items():
        if not isinstance(names, dict):
            return f"{place}: must map names to secrets"
        for name, value in names.items():
            if isinstance(value, dict | list):
                return f"{place}.{name}: must be one text"
    return ""


class Vault:
    """Vault or OpenBao, key-value engine 2: `<prefix>/<app>/<name>`, `<prefix>/_shared/<name>`."""

    def __init__(self, address: str, mount: str, prefix: str, token_file: Path) -> None:
        self._data = f"{address.rstrip('/')}/v1/{urllib.parse.quote(mount)}/data/{urllib.parse.quote(prefix)}"
        self._token_file = token_file

    def find(self, app: str, name: str) -> str | None:
        """Raises SecretsUnavailable."""
        found = self._read(f"{self._data}/{app}/{name}")
        return found if found is not None else self._read(f"{self._data}/_shared/{name}")

    def _read(self, url: str) -> str | None:
        try:
            token = self._token_file.read_text().strip()
        except OSError as error:
            raise SecretsUnavailable(f"the token of Vault: {self._token_file}: {error.strerror}") from None
        headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http(s) only: see the setting
        try:
            with _OPENER.open(request, timeout=VAULT_SECONDS) as answer:
                document = json.loads(answer.read(MAX_ANSWER_BYTES))
            found = document["data"]["data"].get(VAULT_FIELD)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            hint = "; its token may have expired" if error.code == 403 else ""
            raise SecretsUnavailable(f"Vault answered {error.code} for {url}{hint}") from None
        except OSError as error:
            raise SecretsUnavailable(f"Vault cannot be reached for {url}: {error}") from None
        except http.client.HTTPException as error:
            # Not its text, which repeats what the server sent.
            raise SecretsUnavailable(
                f"what answers for {url} does not speak HTTP as Vault does ({type(error).__name__}); "
                "check the setting vault_address"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise SecretsUnavailable(f"{url} answered something else than a secret of version 2") from None
        return None if found is None else str(found)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token goes to the configured server and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
