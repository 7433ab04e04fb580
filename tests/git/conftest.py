"""Fixtures of the Git tests."""

import shutil

import pytest

from git.git_world import Receiver, World


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / "home")
    yield world
    shutil.rmtree(world.home.run, ignore_errors=True)  # Elsewhere, if the folder's name is long.


@pytest.fixture
def receiver(world):
    with Receiver(world.home) as running:
        yield running
