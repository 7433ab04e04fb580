"""Answers are checked as JSON Schema says: the required tests of the official suite, draft 2020-12.

The suite (MIT, see its `license` key) lies beside this file, as `jsonschema` carries it in its source.
"""

import gzip
import re
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from referencing.exceptions import Unresolvable

from uhlp_mcp.llm.output import violations
from uhlp_state.schema_source import schema_mistakes

SUITE = orjson.loads(gzip.decompress(Path(__file__).with_name("json_schema_test_suite.json.gz").read_bytes()))

DOCS = Path(__file__).parents[3] / "docs" / "prompts.md"


def test_all_required_tests_pass_but_those_that_the_docs_name_whose_schemas_are_refused() -> None:
    passed, failed = 0, Counter[tuple[str, str]]()
    for file, groups in SUITE["files"].items():
        for group in groups:
            for test in group["tests"]:
                if _is_valid(test["data"], group["schema"]) is test["valid"]:
                    passed += 1
                else:
                    failed[file, group["description"]] += 1
                    assert schema_mistakes(group["schema"]), (file, group["description"])
    assert failed == _documented()
    assert f"{passed + failed.total()} required tests" in DOCS.read_text()
    assert (passed, failed.total()) == (1212, 45)


def _documented() -> dict[tuple[str, str], int]:
    """How many tests docs/prompts.md says do not pass, by file and group."""
    section = DOCS.read_text().partition("\n### What a schema may say\n")[2].partition("\n## ")[0]
    return {
        (f"{file}.json", group): int(count)
        for file, groups in re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)
        for group, count in re.findall(r"`([^`]+)` (\d+)", groups)
    }


def _is_valid(value: Any, schema: Any) -> bool | None:
    """None where the schema refers to what is not there."""
    try:
        return not violations(value, schema)
    except Unresolvable:
        return None
