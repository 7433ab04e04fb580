"""Names that appear in URLs, folders and Redis keys: apps, deployments, requests."""

import random
import re
from dataclasses import dataclass

from uhlp_core.errors import InvalidInput

APP_ID_PATTERN = r"[a-z](?:-?[a-z0-9])*"
"""An app id is a DNS label: lower case, digits, single dashes inside. `--` separates a preview's name."""

MAX_APP_ID = 39
"""`<preview>--<app>` must fit a DNS label of 63 characters; see MAX_PREVIEW."""

MAX_PREVIEW = 22

PLATFORM_APP = "platform"
"""The repo that shapes all apps; it is reconciled, but serves nothing."""

RESERVED_APP_IDS = frozenset({PLATFORM_APP, "www", "api", "admin", "control", "git", "localhost", "register"})

PRODUCTION_BRANCH = "main"
PREVIEW_PREFIXES = ("preview/", "proposals/")

MAX_REQUEST_ID = 128

USER_ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}"
"""A user's id as credentials name it: a name, an e-mail address, an id of somewhere else."""

_APP_ID = re.compile(APP_ID_PATTERN)
_USER_ID = re.compile(USER_ID_PATTERN)
_DEPLOYMENT = re.compile(rf"({APP_ID_PATTERN})(?:@({APP_ID_PATTERN}|[0-9][a-z0-9-]*))?")
_REQUEST_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{MAX_REQUEST_ID}}}")


def is_app_id(text: str) -> bool:
    """Whether `text` may name an app (the platform repo and reserved host names may not)."""
    return bool(_APP_ID.fullmatch(text)) and len(text) <= MAX_APP_ID and text not in RESERVED_APP_IDS


def check_app_id(text: str) -> str:
    """Return `text` if it may name an app; raises InvalidInput with the rule otherwise."""
    if not is_app_id(text):
        raise InvalidInput(
            f"{text[:60]!r} cannot name an app: use lower-case letters, digits and single dashes, start with "
            f"a letter, at most {MAX_APP_ID} characters, and none of {', '.join(sorted(RESERVED_APP_IDS))}"
        )
    return text


def check_user_id(text: str) -> str:
    """Return `text` if it may name a user; raises InvalidInput with the rule otherwise."""
    if not _USER_ID.fullmatch(text):
        raise InvalidInput(
            f"{text[:60]!r} cannot name a user: use letters, digits and . _ @ + -, start with a letter or "
            "digit, at most 128 characters"
        )
    return text


@dataclass(frozen=True, slots=True)
class Deployment:
    """An app at a branch: what is served under one host name."""

    app: str
    preview: str | None = None
    """None for production (`main`), else the preview's name."""

    @property
    def id(self) -> str:
        return self.app if self.preview is None else f"{self.app}@{self.preview}"

    @property
    def host_label(self) -> str:
        """The DNS label under the platform's domain: `hello`, or `dark--hello` for a preview."""
        return self.app if self.preview is None else f"{self.preview}--{self.app}"

    @property
    def is_proposal(self) -> bool:
        """Whether it may be a change that nobody has looked at: of a branch below `proposals/`."""
        return self.preview is not None and self.preview.startswith("proposals-")

    @classmethod
    def parse(cls, deployment_id: str) -> "Deployment":
        """The inverse of `id`; raises InvalidInput."""
        found = _DEPLOYMENT.fullmatch(deployment_id)
        if not found:
            raise InvalidInput(f"{deployment_id[:80]!r} is no deployment: expected APP or APP@PREVIEW")
        return cls(found[1], found[2])

    @classmethod
    def of_branch(cls, app: str, branch: str) -> "Deployment | None":
        """The deployment that a branch is served as, or None for a branch that is only kept."""
        if branch == PRODUCTION_BRANCH:
            return cls(app)
        for prefix in PREVIEW_PREFIXES:
            if branch.startswith(prefix) and len(branch) > len(prefix):
                named = branch if prefix == "proposals/" else branch.removeprefix(prefix)
                slug = re.sub(r"[^a-z0-9]+", "-", named.lower()).strip("-")[:MAX_PREVIEW].strip("-")
                return cls(app, slug) if slug else None
        return None


def new_request_id() -> str:
    """A random id for one request, to search logs by. It need not be unguessable: it opens nothing."""
    return f"{random.getrandbits(128):032x}"


def child_request_id(parent: str) -> str:
    """An id for a request that another one causes; whoever searches logs for the parent finds it too."""
    suffix = f".{random.getrandbits(32):08x}"
    return parent[: MAX_REQUEST_ID - len(suffix)] + suffix


def is_request_id(text: str) -> bool:
    """Whether a client's `X-Request-ID` is safe to adopt: short, nothing that could break a log line."""
    return bool(_REQUEST_ID.fullmatch(text))
