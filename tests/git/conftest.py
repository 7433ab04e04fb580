"""Fixtures of the Git tests."""

import pytest

from git.git_world import Receiver, World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "home")


@pytest.fixture
def receiver(world):
    with Receiver(world.home) as running:
        yield running
