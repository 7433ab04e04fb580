"""A platform shared by the tests of this folder, and fresh ones for tests that break theirs."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.platform_under_test import Platform


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """One running platform for every test that leaves it whole; each uses apps of its own."""
    running = Platform(Path(tempfile.mkdtemp(prefix="uh-", dir="/tmp")))
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture
def fresh_platform() -> Iterator[Callable[..., Platform]]:
    """Makes platforms (not started) that end with the test; keywords are settings (`UHLP_…`)."""
    made: list[Platform] = []

    def make(**settings: str) -> Platform:
        made.append(Platform(Path(tempfile.mkdtemp(prefix="uh-", dir="/tmp")), settings))
        return made[-1]

    yield make
    for each in made:
        each.close()
