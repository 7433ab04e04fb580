"""The official conformance suite, in both revisions (see conformance/).

It is let loose on the platform's own server, which must pass every scenario but those that docs/mcp.md names,
since they ask for what the platform does not offer; and these on the SDK behind our door and bridge.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.node_programs import programs, run
from uhlp_core.sockets import listen_tcp

HERE = Path(__file__).parent / "conformance"
DOCS = Path(__file__).parents[2] / "docs" / "mcp.md"

PARTLY = {
    "server-stateless": {
        "sep-2575-server-rejects-undeclared-capability",
        "sep-2575-missing-capability-http-400",
    },
    "caching": {
        "sep-2549-prompts-list-caching-hints",
        "sep-2549-resources-list-caching-hints",
        "sep-2549-resources-templates-list-caching-hints",
    },
}
"""Scenarios that the platform passes but for these checks, which ask for what it does not offer."""


ANSWERED_HERE = {
    "2025-11-25": {
        "server-initialize",
        "ping",
        "tools-list",
        "tools-call-with-progress",
        "json-schema-2020-12",
    },
    "2026-07-28": {"tools-list", "dns-rebinding-protection", "http-header-validation", "json-schema-2020-12"},
}
"""Some that the platform passes, by revision, required or not: they show that the suite has run."""


@dataclass(frozen=True)
class Outcome:
    """How the scenarios of a revision ended."""

    passed: frozenset[str]
    failed: frozenset[str]
    """Only those that the revision requires, and no extension of it."""
    folder: Path

    def failed_checks(self, scenario: str) -> set[str]:
        """The parts of a scenario that failed."""
        (file,) = self.folder.glob(f"server-{scenario}-2*/checks.json")
        return {check["id"] for check in json.loads(file.read_text()) if check["status"] == "FAILURE"}


@contextmanager
def serving(script: str, home: Path) -> Iterator[str]:
    """The address at which one of the servers in conformance/ listens."""
    with listen_tcp("127.0.0.1", 0) as listener:
        command = [sys.executable, str(HERE / script), str(listener.fileno()), str(home)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[listener.fileno()], text=True)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield f"http://localhost:{listener.getsockname()[1]}/mcp"
        finally:
            server.terminate()
            server.communicate()


def judge(script: str, revision: str, folder: Path) -> Outcome:
    """Let the suite loose on a server."""
    with serving(script, folder / "home") as url:
        done = run("conformance", "server", "--url", url, "--requirements", revision, "-o", str(folder))
    summary = done.stdout.partition("=== SUMMARY ===")[2]
    results = re.findall(r"^([✓✗]) (\S+):", summary, re.MULTILINE)
    assert results, done.stdout[-6000:] + done.stderr[-2000:]
    not_required = set(re.findall(r"^  [✓✗] (\S+) \(", summary, re.MULTILINE))
    passed, failed = (frozenset(name for got, name in results if got == mark) for mark in "✓✗")
    return Outcome(passed, failed - not_required, folder)


def not_offered() -> set[str]:
    """The scenarios that docs/mcp.md names."""
    section = DOCS.read_text().partition("\n## Conformance\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| [^|]+ \| (`.+) \|$", section, re.MULTILINE)
    return {name for row in rows for name in re.findall("`([^`]+)`", row)}


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The platform's own server, by revision."""
    programs()
    return {one: judge("product_server.py", one, tmp_path_factory.mktemp("product")) for one in ANSWERED_HERE}


def test_the_platform_passes_all_but_what_it_does_not_offer(product: dict[str, Outcome]) -> None:
    named = not_offered()
    for revision, found in product.items():
        assert found.passed >= ANSWERED_HERE[revision]
        assert found.failed <= named, found.failed - named
        assert not found.passed & named, found.passed & named
    assert set().union(*(found.failed for found in product.values())) == named
    assert {name: product["2026-07-28"].failed_checks(name) for name in PARTLY} == PARTLY


@pytest.mark.parametrize("revision", ANSWERED_HERE)
def test_what_it_does_not_offer_would_come_through_its_door_and_bridge(
    product: dict[str, Outcome], revision: str, tmp_path: Path
) -> None:
    assert judge("features_server.py", revision, tmp_path).passed >= product[revision].failed
