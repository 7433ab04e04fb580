"""The program that holds documents against schemas for a gateway: what `schemas.SchemaCheck` asks.

Draft 2020-12, and no reference is ever fetched: a schema that points out of itself is refused at push, and
here it would end as a mismatch of its own.
"""

from functools import lru_cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from uhlp_state.json_schema.check_process import serve

MAX_VIOLATIONS = 50
"""Violations told of one document; a client mends them in groups anyway."""

MAX_DETAIL = 200
"""Characters of one violation's text, which quotes the client's own data."""

MAX_COMPILED = 64
"""Schemas kept ready; the largest that a push may bring takes a few megabytes."""


def violations(document: Any, schema: str) -> list[dict[str, str]]:
    """What is wrong with a document by a schema's JSON text, as `{pointer, detail}`; empty if it conforms."""
    found: list[dict[str, str]] = []
    try:
        for error in _validator(schema).iter_errors(document):
            found.append({"pointer": _pointer(error), "detail": error.message[:MAX_DETAIL]})
            if len(found) == MAX_VIOLATIONS:
                break
    except RecursionError:
        found.append({"pointer": "", "detail": "the document is nested too deeply"})
    except Unresolvable as error:
        found.append({"pointer": "", "detail": f"the schema refers to something outside itself: {error}"})
    return found


@lru_cache(maxsize=MAX_COMPILED)
def _validator(schema: str) -> Validator:
    return Draft202012Validator(orjson.loads(schema), registry=Registry())


def _pointer(error: ValidationError) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in error.absolute_path)


if __name__ == "__main__":
    serve({"violations": violations})
