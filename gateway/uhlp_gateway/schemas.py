"""JSON Schemas of an app, compiled once per table, and what a mismatch is told as.

A schema may say anything, also what takes for ever to find out: only the plain ones are judged here, all
others by `schema_process`, where that holds up no other app.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from uhlp_state.json_schema.check_pool import CheckPool, JobFailed
from uhlp_state.json_schema.quick_check import compile_quick

PROGRAM = "uhlp_gateway.schema_process"


class SchemaCheck:
    """A schema of an app's, ready to hold documents against."""

    __slots__ = ("_app", "_conforms", "_pool", "_schema")

    def __init__(self, app: str, schema: Mapping[str, Any] | bool, pool: CheckPool) -> None:
        """`pool` runs PROGRAM."""
        self._app = app
        self._conforms = compile_quick(schema)
        self._schema = orjson.dumps(schema).decode()
        self._pool = pool

    async def violations(self, document: Any) -> list[dict[str, str]]:
        """What is wrong with a document, as `{pointer, detail}` (RFC 6901); empty if it conforms.

        That it could not be found out, in the time and memory there is, counts as wrong too.
        """
        if self._conforms(document):
            return []
        try:
            found: list[dict[str, str]] = await self._pool.run(
                self._app, "violations", document=document, schema=self._schema
            )
        except JobFailed as error:
            return [{"pointer": "", "detail": f"it could not be held against its schema in time: {error}"}]
        except TypeError:
            return [{"pointer": "", "detail": "the document is nested too deeply"}]
        return found
