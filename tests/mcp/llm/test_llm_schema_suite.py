"""Answers are checked as JSON Schema says: the required tests of the official suite, draft 2020-12.

The suite (MIT, see its `license` key) lies beside this file, as `jsonschema` carries it in its source.
"""

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from referencing.exceptions import Unresolvable

from uhlp_mcp.llm.output import violations
from uhlp_state.schema_source import schema_mistakes

SUITE = orjson.loads(gzip.decompress(Path(__file__).with_name("json_schema_test_suite.json.gz").read_bytes()))

NOT_SUPPORTED = {"dynamicRef.json": 13, "refRemote.json": 31, "vocabulary.json": 1}
"""By file: tests that refer to other documents, which are never fetched, and one with its own vocabulary.
Their schemas are refused before anything is asked of a model."""


def test_all_required_tests_pass_but_those_whose_schemas_are_refused() -> None:
    passed, failed = 0, Counter[str]()
    for file, groups in SUITE["files"].items():
        for group in groups:
            for test in group["tests"]:
                if _is_valid(test["data"], group["schema"]) is test["valid"]:
                    passed += 1
                else:
                    failed[file] += 1
                    assert schema_mistakes(group["schema"]), (file, group["description"])
    assert (passed, failed) == (1212, NOT_SUPPORTED)


def _is_valid(value: Any, schema: Any) -> bool | None:
    """None where the schema refers to what is not there."""
    try:
        return not violations(value, schema)
    except Unresolvable:
        return None
