"""Packages installed in containers: what a hostile one can do there, and that instances find good ones."""

import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import docker as sdk
import pytest
from docker.errors import NotFound

from runner.sandbox import MODES, Sandbox
from support.package_index import PackageIndex, archive, package_index
from support.waiting import wait_until
from uhlp_core.home import Home
from uhlp_core.settings import Settings
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_reconcilers.backends.docker_engine import Engine
from uhlp_reconcilers.backends.protocol import BackendError
from uhlp_reconcilers.environments import installing
from uhlp_reconcilers.environments.in_container import INSTALLER_LABEL, InContainer
from uhlp_reconcilers.environments.installer import InstallRefused, Order
from uhlp_reconcilers.environments.installing import install
from uhlp_state.dependencies import Dependencies
from uhlp_state.model.pools import DEFAULT_IMAGE, Language

Start = Callable[..., Awaitable[Sandbox]]

PYPROJECT = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
PACKAGE_INFO = "Metadata-Version: 2.1\nName: hostile\nVersion: 1\n"
BACKEND = """\
import json, os, socket, sys, time, zipfile


def tried(act):
    try:
        return repr(act())
    except BaseException as error:
        return type(error).__name__


def build_wheel(folder, config_settings=None, metadata_directory=None):
    findings = {{}}
{attack}
    info = "hostile-1.dist-info"
    with zipfile.ZipFile(os.path.join(folder, "hostile-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("hostile.py", "FINDINGS = " + repr(findings))
        wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: hostile\\nVersion: 1\\n")
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "/RECORD", "")
    return "hostile-1-py3-none-any.whl"
"""


@pytest.fixture
def index(api: sdk.APIClient) -> Iterator[PackageIndex]:
    with package_index(api.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"]) as running:
        yield running


@pytest.fixture
def settings(home: Home, index: PackageIndex) -> Settings:
    return Settings(home_dir=home.root, package_index=f"{index.url}/simple/")


def _install(settings: Settings, backend: DockerBackend, requirements: str) -> Path:
    engine = Engine()
    installer = InContainer(settings, engine, backend.check)
    order = Order(Dependencies(Language.PYTHON, {"requirements.txt": requirements.encode()}), DEFAULT_IMAGE)
    place = (
        settings.home.environments
        / order.dependencies.digest
        / installer.target(Language.PYTHON, order.image)
    )
    try:
        install(installer, order, place, settings, lambda line: None, threading.Event())
    finally:
        engine.close()
    return place / "packages"


def _offer(index: PackageIndex, attack: str) -> None:
    backend = BACKEND.format(attack="".join(f"    {line}\n" for line in attack.splitlines()))
    files = {"pyproject.toml": PYPROJECT, "backend.py": backend, "PKG-INFO": PACKAGE_INFO}
    index.add("hostile", "hostile-1.tar.gz", archive("hostile-1", files))


def _installers(api: sdk.APIClient) -> list[str]:
    return [found["Id"] for found in api.containers(all=True, filters={"label": INSTALLER_LABEL})]


def test_a_build_sees_and_changes_nothing_but_its_box(
    settings: Settings, backend: DockerBackend, index: PackageIndex, home: Home
) -> None:
    (home.secrets / "operator-token").write_text("secret")
    attack = f"""\
for path in ("/", "/usr", "/etc", "/opt/uhlp", "/uhlp", "/uhlp/tools/pip"):
    findings["write " + path] = tried(lambda: open(path + "/x", "w"))
findings["home"] = tried(lambda: os.listdir({str(home.root)!r}))
findings["engine"] = tried(lambda: socket.socket(socket.AF_UNIX).connect("/var/run/docker.sock"))
findings["shadow"] = tried(lambda: open("/etc/shadow").read())
findings["root"] = tried(lambda: os.setuid(0))
findings["uhlp"] = sorted(os.listdir("/uhlp"))
status = dict(line.rstrip().split(":\\t", 1) for line in open("/proc/self/status"))
findings["capabilities"] = status["CapBnd"]
findings["no new privileges"] = status["NoNewPrivs"]
findings["variables"] = [name for name in os.environ if "UHLP" in name or "TOKEN" in name]
"""
    _offer(index, attack)
    packages = _install(settings, backend, "hostile\n")
    found: dict[str, object] = {}
    exec((packages / "hostile.py").read_text(), found)
    findings = found["FINDINGS"]
    assert isinstance(findings, dict)
    writes = {name: findings.pop(name) for name in list(findings) if name.startswith("write ")}
    assert set(writes.values()) <= {"OSError", "PermissionError"}, writes
    assert findings == {
        "home": "FileNotFoundError",
        "engine": "FileNotFoundError",
        "shadow": "PermissionError",
        "root": "PermissionError",
        "uhlp": ["box", "log", "tools"],
        "capabilities": "0" * 16,
        "no new privileges": "1",
        "variables": [],
    }


def test_a_build_that_runs_for_ever_or_writes_without_end_is_ended(
    settings: Settings,
    backend: DockerBackend,
    index: PackageIndex,
    api: sdk.APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _offer(index, "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)")
    monkeypatch.setattr(installing, "MAX_SECONDS", 4.0)
    with pytest.raises(InstallRefused, match="took longer than 4 s"):
        _install(settings, backend, "hostile\n")
    monkeypatch.setattr(installing, "MAX_SECONDS", 60.0)
    monkeypatch.setattr(installing, "MAX_BYTES", 8 << 20)
    _offer(
        index,
        "file = open('big', 'wb')\nwhile True:\n    file.write(b'x' * 100_000); time.sleep(0.001)",
    )
    with pytest.raises(InstallRefused, match="more than 8 MiB"):
        _install(settings, backend, "hostile\n")
    assert list(settings.home.environments.glob("*/*")) == []


def test_a_build_that_plants_a_link_to_the_hosts_files_is_refused(
    settings: Settings, backend: DockerBackend, index: PackageIndex
) -> None:
    _offer(index, "os.symlink('/etc/shadow', '/uhlp/box/packages/leak')")
    with pytest.raises(InstallRefused, match="a package has put something there that is not its own: 'leak'"):
        _install(settings, backend, "hostile\n")


def test_what_a_killed_daemon_left_running_is_removed_before_the_next_installation(
    settings: Settings, backend: DockerBackend, index: PackageIndex, api: sdk.APIClient, home: Home
) -> None:
    index.add_wheel("tiny", "1", {"tiny.py": ""})
    index.hold.clear()

    def first() -> None:
        with pytest.raises(BackendError, match="removed by hand"):
            _install(settings, backend, "tiny\n")

    thread = threading.Thread(target=first)
    thread.start()
    wait_until(lambda: any("tiny-1" in path for path in index.asked), "pip is in the middle")
    [abandoned] = [one for one in _installers(api) if _is_of(api, one, home)]
    # What follows is another daemon, to which that container is nobody's.
    index.hold.set()
    _install(settings, backend, "tiny==1\n")
    assert abandoned not in _installers(api)
    thread.join()


def _is_of(api: sdk.APIClient, container: str, home: Home) -> bool:
    try:
        mounts = api.inspect_container(container)["Mounts"]
    except NotFound:
        return False  # It has gone since it was listed, so it is not what this test holds on to.
    return any(mount["Source"].startswith(str(home.root)) for mount in mounts)


@pytest.mark.parametrize("mode", MODES)
async def test_an_instance_imports_its_packages_and_cannot_change_them(
    settings: Settings,
    backend: DockerBackend,
    index: PackageIndex,
    start: Callable[..., Awaitable[Sandbox]],
    mode: str,
) -> None:
    index.add_wheel("tiny", "1", {"tiny.py": "VERSION = '1'\n"})
    packages = _install(settings, backend, "tiny\n")
    code = (
        "import tiny\n\n\ndef ask(input, context):\n"
        "    try:\n        open(tiny.__file__, 'a')\n"
        "    except OSError as error:\n        return {'version': tiny.VERSION, 'write': error.strerror}\n"
    )
    sandbox = await start(code, mode=mode, env_paths=(packages,))
    await sandbox.prepare("t1", "main.py", "ask")
    _, answer = await sandbox.execute("ask")
    assert answer["data"]["version"] == "1", json.dumps(answer)
    assert answer["data"]["write"] in ("Permission denied", "Read-only file system")
