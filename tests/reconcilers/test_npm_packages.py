"""Node packages, installed by the real npm from a registry of the test's own."""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.package_index import PackageIndex, npm_lists, package_index
from uhlp_core.home import Home
from uhlp_core.settings import Settings
from uhlp_reconcilers.environments.in_process import InProcess
from uhlp_reconcilers.environments.installer import InstallFailed, InstallRefused, Order
from uhlp_reconcilers.environments.installing import install
from uhlp_state.dependencies import read_dependencies
from uhlp_state.export import remove_tree
from uhlp_state.model.pools import NODE_IMAGE

pytestmark = pytest.mark.skipif(
    shutil.which("npm") is None or shutil.which("node") is None, reason="node and npm are not in PATH"
)


@pytest.fixture
def registry() -> Iterator[PackageIndex]:
    with package_index() as running:
        yield running


@pytest.fixture
def settings(registry: PackageIndex) -> Iterator[Settings]:
    folder = Path(tempfile.mkdtemp(prefix="un-", dir="/tmp"))
    Home(folder).create()
    yield Settings(home_dir=folder, npm_registry=f"{registry.url}/npm/")
    for left in (folder / "environments").glob("*/*"):
        remove_tree(left)
    shutil.rmtree(folder)


def _install(settings: Settings, integrity: str) -> Path:
    files = npm_lists("tiny", "1.0.0", integrity)
    encoded = {path: text.encode() for path, text in files.items()}
    [wanted] = read_dependencies(encoded.get)
    installer = InProcess(settings)
    place = settings.home.environments / wanted.digest / installer.target(wanted.language, NODE_IMAGE)
    install(installer, Order(wanted, NODE_IMAGE), place, settings, lambda line: None, threading.Event())
    return place / "node_modules"


def test_a_locked_package_comes_from_the_operators_registry_and_is_required_by_name(
    settings: Settings, registry: PackageIndex
) -> None:
    integrity = registry.add_npm("tiny", "1.0.0", {"index.js": "module.exports = 'tiny'\n"})
    modules = _install(settings, integrity)
    printed = subprocess.run(
        ["node", "-p", "require('tiny')"],
        cwd="/",
        env={"NODE_PATH": str(modules), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout == "tiny\n"
    assert registry.asked == ["/npm/tiny", "/tarballs/tiny.tgz"]


def test_another_content_than_the_locked_one_is_refused(settings: Settings, registry: PackageIndex) -> None:
    registry.add_npm("tiny", "1.0.0", {"index.js": ""})
    with pytest.raises(InstallRefused, match="EINTEGRITY"):
        _install(settings, "sha512-" + "A" * 86 + "==")


def test_a_registry_that_is_away_is_asked_again_later(settings: Settings, registry: PackageIndex) -> None:
    integrity = registry.add_npm("tiny", "1.0.0", {"index.js": ""})
    registry.is_away = True
    with pytest.raises(InstallFailed, match="503"):
        _install(settings, integrity)
