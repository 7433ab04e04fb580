"""JSON Schemas of an app, compiled once per table, and what a mismatch is told as.

Draft 2020-12, and no reference is ever fetched: a schema that points out of itself is refused at push, and
here it would end as a mismatch of its own.
"""

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

MAX_VIOLATIONS = 50
"""Violations told of one document; a client mends them in groups anyway."""

MAX_DETAIL = 200
"""Characters of one violation's text, which quotes the client's own data."""


class SchemaCheck:
    """A compiled schema."""

    __slots__ = ("_validator",)

    def __init__(self, schema: Mapping[str, Any] | bool) -> None:
        self._validator = Draft202012Validator(schema, registry=Registry())

    def violations(self, document: Any) -> list[dict[str, str]]:
        """What is wrong with a document, as `{pointer, detail}` (RFC 6901); empty if it conforms."""
        found: list[dict[str, str]] = []
        try:
            for error in self._validator.iter_errors(document):
                found.append({"pointer": _pointer(error), "detail": error.message[:MAX_DETAIL]})
                if len(found) == MAX_VIOLATIONS:
                    break
        except RecursionError:
            found.append({"pointer": "", "detail": "the document is nested too deeply"})
        except Unresolvable as error:
            found.append({"pointer": "", "detail": f"the schema refers to something outside itself: {error}"})
        return found


def _pointer(error: ValidationError) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in error.absolute_path)
