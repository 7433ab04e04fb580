"""References to secrets: the only form in which a definition may speak of a credential."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from uhlp_core.errors import InvalidInput
from uhlp_core.secrets import REFERENCE, referenced
from uhlp_state.model.base import KEY, refusal
from uhlp_state.problems import Code


def _check_reference(text: str) -> str:
    try:
        referenced(text)
    except InvalidInput:
        # The value is never repeated: what is here by mistake may be the credential itself.
        message = f"{KEY} must be a reference to a secret, like secret:openai"
        remedy = (
            "set it with `uhlp secrets set` and write `secret:<name>`; replace a credential that was pushed"
        )
        raise refusal(Code.PLAIN_CREDENTIAL, message, remedy) from None
    return text


SecretReference = Annotated[
    str, AfterValidator(_check_reference), WithJsonSchema({"type": "string", "pattern": REFERENCE})
]
"""`secret:<name>`: the name of a secret of the app, never the secret."""
