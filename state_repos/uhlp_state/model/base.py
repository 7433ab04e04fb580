"""What all classes of the model share: strict, frozen, camelCase, and errors that carry our codes."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Strict, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from uhlp_core.ids import MAX_APP_ID
from uhlp_state.model.patterns import APP_ID, USER_ID
from uhlp_state.problems import Code, closest, quoted


class Model(BaseModel):
    """Base of the model: unknown keys are errors, instances never change."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        # In the schemas for editors, a key is called what the YAML calls it.
        field_title_generator=lambda name, field: field.alias or name,
    )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON with the YAML's key names; every default is written out."""
        return self.model_dump(mode="json", by_alias=True)


Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
UserIdText = Annotated[str, StringConstraints(pattern=USER_ID)]
AppIdText = Annotated[str, StringConstraints(pattern=APP_ID, max_length=MAX_APP_ID)]
"""An app's id: lower-case letters, digits and single hyphens; part of host names and paths."""


KEY = "{key}"
"""In the message of a refusal: the name of the key, which a validator does not know."""


def refusal(code: Code, message: str, remedy: str) -> PydanticCustomError:
    """The error that a validator of the model raises: it becomes a `Problem` with this code.

    `KEY` in the message stands for the name of the key that holds the value.
    """
    # Pydantic fills {placeholders} in the message from the context, so the texts travel there, unread.
    return PydanticCustomError(code.value, "{message}", {"message": message, "remedy": remedy})


def _any_case(kind: type[StrEnum], prefix: str) -> Callable[[object], object]:
    by_name = {member.value.lower(): member for member in kind}

    def read(value: object) -> object:
        if isinstance(value, kind):
            return value
        expected = ", ".join(member.value for member in kind)
        if not isinstance(value, str):
            raise refusal(
                Code.WRONG_TYPE, f"{KEY} must be one of {expected}", "write one of the names as a string"
            )
        found = by_name.get(value.lower().removeprefix(prefix.lower()))
        if found is None:
            close = closest(value.lower(), by_name)
            remedy = f"did you mean {quoted(by_name[close].value)}?" if close else f"use one of {expected}"
            raise refusal(Code.BAD_VALUE, f"{KEY} must be one of {expected}, got {quoted(value)}", remedy)
        return found

    return read


def any_case(kind: type[StrEnum], prefix: str = "") -> tuple[BeforeValidator, WithJsonSchema]:
    """Annotations for an enumeration that may be written in any letter case, with or without `prefix`."""
    spellings = [member.value for member in kind]
    spellings += [word for member in kind if (word := member.value.lower()) not in spellings]
    spellings += [prefix + member.value for member in kind if prefix]
    return BeforeValidator(_any_case(kind, prefix)), WithJsonSchema({"type": "string", "enum": spellings})
