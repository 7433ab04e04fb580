"""The sandbox images for tests that run containers: built once, or the reason why those tests are skipped."""

import os
from functools import cache

import pytest

from uhlp_reconcilers.backends.docker_engine import Engine
from uhlp_reconcilers.backends.protocol import BackendError
from uhlp_reconcilers.images import build, recipe

REQUIRED = bool(os.environ.get("UHLP_REQUIRE_DOCKER"))
"""Whether tests that need an engine fail without one, instead of being skipped."""


def in_engine() -> None:
    """Have every image of this version in the engine; skips or fails the test where no engine answers.

    An image is built if it is not there, which takes about a minute where no base is cached.
    """
    if why := _without_engine():
        assert not REQUIRED, why
        pytest.skip(f"no Docker engine answers (UHLP_REQUIRE_DOCKER would make this a failure): {why}")


@cache
def _without_engine() -> str:
    """Why there is no engine; once there is one, the images are built, and it is empty."""
    engine = Engine()
    try:
        engine.info()
    except BackendError as error:
        return str(error)
    try:
        for name in recipe.IMAGES:
            build.build(engine, name, print)
    finally:
        engine.close()
    return ""
