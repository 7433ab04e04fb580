"""Secrets by reference: configuration in Git holds `secret:<name>`, and this finds the value for one app.

A value is found for an app only if it was given to that app, or to all apps by a person who said so: an app's
repository can ask for any name, so the name alone opens nothing.
"""

from .local import ALL_APPS, LocalSecrets, StoredSecret
from .names import REFERENCE, check_name, referenced
from .sources import SecretMissing, SecretsUnavailable
from .store import SecretStore, local_secrets

__all__ = [
    "ALL_APPS",
    "REFERENCE",
    "LocalSecrets",
    "SecretMissing",
    "SecretStore",
    "SecretsUnavailable",
    "StoredSecret",
    "check_name",
    "local_secrets",
    "referenced",
]
