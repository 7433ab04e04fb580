"""From what an installer leaves behind to an environment: bounded, and only what is the installer's own.

The installers here are the test's own, and hostile; real ones are in the tests of packages and of Docker.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from uhlp_core.home import Home
from uhlp_core.settings import Settings
from uhlp_reconcilers.backends.users import INSTALLER_UID
from uhlp_reconcilers.environments import installing
from uhlp_reconcilers.environments.installer import InstallFailed, InstallRefused, Order, Running, Work
from uhlp_reconcilers.environments.installing import InstallStopped, install
from uhlp_state.dependencies import Dependencies
from uhlp_state.export import remove_tree
from uhlp_state.model.pools import Language

ORDER = Order(Dependencies(Language.PYTHON, {"requirements.txt": b"a==1\n"}), "image")
UID = INSTALLER_UID if os.geteuid() == 0 else os.geteuid()


class Hostile:
    """An installer that does as it is told, as its own user, and then ends or hangs."""

    uid = UID

    def __init__(self, act: Callable[[Path], None], said: bytes = b"", code: int | None = 0) -> None:
        self._act, self._said, self._code = act, said, code
        self.ended = False

    def target(self, language: Language, image: str) -> str:
        return "target"

    def begin(self, order: Order, work: Work) -> Running:
        self._act(work.box / "packages")
        for path in work.box.rglob("*"):
            if path.is_symlink() or path.is_dir() or path.stat().st_nlink == 1:
                os.chown(path, UID, UID, follow_symlinks=False)
        work.log.write_bytes(self._said)
        return self

    def exit_code(self) -> int | None:
        return self._code

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def settings() -> Iterator[Settings]:
    folder = Path(tempfile.mkdtemp(prefix="ui-", dir="/tmp"))
    Home(folder).create()
    yield Settings(home_dir=folder)
    for left in (folder / "environments").glob("*/*"):
        remove_tree(left)
    shutil.rmtree(folder)


def _install(settings: Settings, installer: Hostile, stop: threading.Event | None = None) -> Path:
    place = settings.home.environments / "digest" / "target"
    try:
        install(installer, ORDER, place, settings, lambda line: None, stop or threading.Event())
    finally:
        assert installer.ended
        assert [path.name for path in place.parent.iterdir()] in ([], ["target"]), "nothing half done is left"
    return place


def test_what_was_installed_is_taken_over_read_only_and_whole(settings: Settings) -> None:
    def act(packages: Path) -> None:
        (packages / "lib").mkdir()
        (packages / "lib" / "code.py").write_text("x = 1\n")
        (packages / "tool").write_text("#!/bin/sh\n")
        (packages / "tool").chmod(0o4777)
        (packages / "link").symlink_to("lib/code.py")

    packages = _install(settings, Hostile(act)) / "packages"
    modes = {path.name: oct(path.lstat().st_mode & 0o7777) for path in packages.rglob("*")}
    assert modes == {"lib": "0o555", "code.py": "0o444", "tool": "0o555", "link": "0o777"}
    assert (packages / "link").read_text() == "x = 1\n"
    assert {path.lstat().st_uid for path in packages.rglob("*")} == {os.geteuid()}


def _replaced(packages: Path) -> None:
    packages.rmdir()
    packages.symlink_to("/etc")


def _hard_linked(packages: Path) -> None:
    secret = packages.parents[3] / "secret"
    secret.write_text("secret")
    os.link(secret, packages / "mine")


@pytest.mark.parametrize(
    "act",
    [
        _replaced,
        _hard_linked,
        lambda packages: (packages / "leak").symlink_to("/etc/shadow"),
        lambda packages: (packages / "leak").symlink_to("../../../../../../secrets"),
        lambda packages: (packages / "loop").symlink_to("loop"),
        lambda packages: os.mkfifo(packages / "pipe"),
    ],
)
def test_what_no_package_has_is_refused(settings: Settings, act: Callable[[Path], None]) -> None:
    with pytest.raises(InstallRefused, match="a package has"):
        _install(settings, Hostile(act))


def test_too_much_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "MAX_BYTES", 1 << 20)
    with pytest.raises(InstallRefused, match="more than 1 MiB"):
        _install(
            settings, Hostile(lambda packages: (packages / "big").write_bytes(b"x" * (2 << 20)) and None)
        )


def test_too_long_is_refused_and_ended(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "MAX_SECONDS", 0.1)
    with pytest.raises(InstallRefused, match="took longer"):
        _install(settings, Hostile(lambda packages: None, code=None))


def test_what_nobody_wants_any_more_is_ended(settings: Settings) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(InstallStopped):
        _install(settings, Hostile(lambda packages: None, code=None), stop)


def test_a_failure_is_told_in_its_own_words_without_what_moves_a_cursor_or_is_secret(
    settings: Settings,
) -> None:
    said = b"Collecting a\nERROR: no \x1b[2J a at http://ada:secret@index.invalid/\n  more\nERROR: so\n"
    with pytest.raises(InstallRefused) as caught:
        _install(settings, Hostile(lambda packages: None, said, code=1))
    assert str(caught.value) == "ERROR: no  [2J a at http://***@index.invalid/\nERROR: so"


@pytest.mark.parametrize(
    "said",
    [
        b"WARNING: Retrying (Retry(total=0)) after connection broken\nERROR: No matching distribution\n",
        b"ERROR: HTTP error 503 while getting http://index.invalid/a.whl\n",
        b"npm error code ECONNREFUSED\n",
        b"npm error code E503\n",
    ],
)
def test_what_was_away_may_be_tried_again(settings: Settings, said: bytes) -> None:
    with pytest.raises(InstallFailed):
        _install(settings, Hostile(lambda packages: None, said, code=1))
