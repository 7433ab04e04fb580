"""A platform shared by the tests of this folder, and fresh ones for tests that break theirs.

All of it runs once on each backend.
"""

from collections.abc import Callable, Iterator

import pytest

from e2e.platform_under_test import Platform
from support import images


@pytest.fixture(scope="session", params=["process", "docker"])
def isolation(request: pytest.FixtureRequest) -> str:
    """What runs the sandboxes. `ON_ONE_BACKEND` is for tests that are independent of it."""
    backend: str = request.param
    if backend == "docker":
        images.in_engine()
    return backend


@pytest.fixture(scope="session")
def platform(isolation: str) -> Iterator[Platform]:
    """One running platform for every test that leaves it whole; each uses apps of its own."""
    running = Platform(settings={"UHLP_ISOLATION": isolation})
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def first(isolation: str) -> Iterator[Platform]:
    """A platform of the module's own, as the first `make run` leaves it: the examples are served."""
    running = Platform(settings={"UHLP_ISOLATION": isolation})
    try:
        running.start("--json")
        running.await_examples()
        yield running
    finally:
        running.close()


@pytest.fixture
def fresh_platform(isolation: str) -> Iterator[Callable[..., Platform]]:
    """Makes platforms (not started) that end with the test; keywords are settings (`UHLP_…`)."""
    made: list[Platform] = []

    def make(**settings: str) -> Platform:
        made.append(Platform(settings={"UHLP_ISOLATION": isolation, **settings}))
        return made[-1]

    yield make
    for each in made:
        each.close()
