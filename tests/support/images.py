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
    if missing := _what_is_missing():
        assert not REQUIRED, missing
        pytest.skip(f"no Docker engine answers (UHLP_REQUIRE_DOCKER would make this a failure): {missing}")


@cache
def _what_is_missing() -> str:
    engine = Engine()
    try:
        engine.info()
        for name in recipe.IMAGES:
            build.build(engine, name, print)
    except BackendError as error:
        return str(error)
    finally:
        engine.close()
    return ""
