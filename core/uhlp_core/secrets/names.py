"""What a secret is called, and how configuration refers to it."""

import re

from uhlp_core.errors import InvalidInput

_NAME = r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*"
MAX_NAME = 64
"""Characters. The shape maps to an environment variable and to a file name without ambiguity."""

REFERENCE = rf"^secret:{_NAME}$"
"""Pattern of a reference, for JSON Schemas."""

_WHOLE_NAME = re.compile(_NAME)


def check_name(name: str) -> str:
    """The name, if it is one. Raises InvalidInput."""
    if len(name) > MAX_NAME or not _WHOLE_NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:MAX_NAME]!r} is not the name of a secret; write lower-case letters and digits, in parts "
            f"joined by - or _, at most {MAX_NAME} characters, such as openai or smtp-password"
        )
    return name


def referenced(reference: str) -> str:
    """The name in `secret:<name>`. Raises InvalidInput, without repeating what may be the secret itself."""
    name = reference.removeprefix("secret:")
    if name == reference or len(name) > MAX_NAME or not _WHOLE_NAME.fullmatch(name):
        raise InvalidInput("expected a reference such as secret:openai, never the secret itself")
    return name
