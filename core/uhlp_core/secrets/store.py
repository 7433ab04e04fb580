"""Finds an app's secret in the sources that the settings name, the nearest first."""

import time
from collections.abc import Callable
from typing import Self

from uhlp_core.secrets.local import LocalSecrets
from uhlp_core.secrets.names import referenced
from uhlp_core.secrets.sources import (
    SecretMissing,
    Sops,
    Vault,
    environment_names,
    from_credentials,
    from_environment,
)
from uhlp_core.settings import Settings

REMEMBER_SECONDS = 30.0
"""A changed secret is in use after this long at most; what is remembered stays in memory only."""

Source = Callable[[str, str], str | None]


class SecretStore:
    """Resolves references. Calls may block on a file, a program or a server for seconds."""

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self._sources = sources
        self._known: dict[tuple[str, str], tuple[float, str]] = {}

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The sources of this installation: the data folder, systemd, the environment, SOPS, Vault."""
        sources: list[Source] = [local_secrets(settings).find, from_credentials, from_environment]
        if settings.secrets_sops_file is not None:
            sources.append(Sops(settings.secrets_sops_file).find)
        if settings.vault_address is not None:
            vault = Vault(
                settings.vault_address, settings.vault_mount, settings.vault_prefix, settings.vault_token_file
            )
            sources.append(vault.find)
        return cls(tuple(sources))

    def resolve(self, app: str, reference: str) -> str:
        """The value that `secret:<name>` stands for in this app.

        Raises:
            InvalidInput: it is not a reference, or the data folder's secrets cannot be opened.
            SecretMissing: no source has it for this app.
            SecretsUnavailable: a source that may have it cannot be asked.
        """
        name = referenced(reference)
        known = self._known.get((app, name))
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        for find in self._sources:
            value = find(app, name)
            if value:
                self._known[app, name] = (time.monotonic() + REMEMBER_SECONDS, value)
                return value
        self._known.pop((app, name), None)
        raise SecretMissing(
            f"{app} has no secret {name}; set it with `uhlp secrets set {name} --app {app}`, "
            f"or as {environment_names(app, name)[0]}"
        )


def local_secrets(settings: Settings) -> LocalSecrets:
    """The encrypted secrets of this data folder."""
    return LocalSecrets(settings.home.secrets / "apps.enc", settings.effective_secrets_key_file)
