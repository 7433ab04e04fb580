"""The dialects of JSON Schema: 2020-12 for an app's own schemas, draft-07 as well for those of other servers.

Published MCP servers name draft-07 in their tools' schemas, as the protocol lets them; where none is named,
2020-12 is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.protocols import Validator
from referencing import Specification
from referencing.jsonschema import DRAFT7, DRAFT202012


@dataclass(frozen=True, slots=True)
class Dialect:
    """One dialect, and what reads it."""

    uri: str
    """As `$schema` names it, without the empty fragment that draft-07 ends it with."""
    validator: type[Validator]
    specification: Specification[Any]
    """Where schemas stand within a schema, and what they are called."""
    references: tuple[str, ...]
    """Keywords whose value is the address of another schema."""


DRAFT_2020_12 = Dialect(
    "https://json-schema.org/draft/2020-12/schema", Draft202012Validator, DRAFT202012, ("$ref", "$dynamicRef")
)
DRAFT_07 = Dialect("http://json-schema.org/draft-07/schema", Draft7Validator, DRAFT7, ("$ref",))

OF_OTHERS = (DRAFT_2020_12, DRAFT_07)
"""What is read of schemas that an app's owners have not written and cannot change."""


def dialect_of(schema: Any) -> Dialect:
    """The dialect that a schema names; 2020-12 where it names none, or one that is not read."""
    named = schema.get("$schema") if isinstance(schema, dict) else None
    return DRAFT_07 if isinstance(named, str) and named.removesuffix("#") == DRAFT_07.uri else DRAFT_2020_12
