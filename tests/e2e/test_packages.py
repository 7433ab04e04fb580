"""An app's packages from `git push` to `import`: installed, shared, replaced, refused, and waited for."""

import json
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import APIClient

from e2e.platform_under_test import Clone, Platform, app_files
from support.package_index import PackageIndex, npm_lists, package_index
from support.waiting import wait_until

REQUIREMENTS = "state/requirements.txt"
HANDLER = "state/_jit_code/root/v1/handler.py"
MODES = ("interpreter", "fork", "server")
CODE = "import tiny\n\n\ndef handle(input, context):\n    return {'tiny': tiny.VERSION}\n"
NATIVE = Path(sysconfig.get_config_var("DESTSHARED"))
"""Where this Python has extension modules, of which the tests take one for a package's own."""


@pytest.fixture
def index(isolation: str) -> Iterator[PackageIndex]:
    host = "127.0.0.1"
    if isolation == "docker":
        client = APIClient()
        host = client.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"]
        client.close()
    with package_index(host) as running:
        for version in ("1.0", "2.0"):
            running.add_wheel("tiny", version, {"tiny.py": f"VERSION = {version!r}\n"})
        yield running


@pytest.fixture
def platform(fresh_platform: Callable[..., Platform], index: PackageIndex) -> Platform:
    started = fresh_platform(
        UHLP_PACKAGE_INDEX=f"{index.url}/simple/",
        UHLP_NPM_REGISTRY=f"{index.url}/npm/",
        UHLP_PUSH_WAIT_SECONDS="30",
    )
    started.start()
    return started


def _instances(platform: Platform, app: str) -> set[str]:
    pools = platform.uhlp("status", app, "--json").json["deployments"][0]["pools"]
    return {instance["instance"] for pool in pools for instance in pool["instances"]}


def _environments(platform: Platform) -> list[Path]:
    return sorted(platform.home.glob("environments/*/*"))


def test_packages_are_imported_in_every_mode_shared_and_replaced_without_a_gap(
    platform: Platform, index: PackageIndex
) -> None:
    [native] = NATIVE.glob("_bisect.*.so")
    index.add_wheel("native", "1", {f"native/{native.name}": native.read_bytes(), "native/__init__.py": ""})
    code = CODE.replace("import tiny\n", "import tiny\nfrom native import _bisect\n").replace(
        "tiny.VERSION}", "tiny.VERSION, 'native': _bisect.bisect_right([1, 2], 1)}"
    )
    pools = "".join(f"    - poolName: {mode}\n      executionMode: {mode}\n" for mode in MODES)
    routes = "".join(
        f"  - componentId: {mode}\n    handlerType: JIT\n    targetPoolName: {mode}\n"
        "    taskDetails: {script: _jit_code/root/v1/handler.py, function: handle}\n"
        f"    routeMatcher: {{pathPattern: /{mode}, methods: [GET]}}\n"
        for mode in MODES
    )
    files = {**app_files("shop", code, pool=pools, routes=routes), REQUIREMENTS: "tiny==1.0\nnative\n"}
    clone = platform.create("shop", files)
    for mode in MODES:
        assert platform.answer("shop", f"/{mode}") == {"tiny": "1.0", "native": 1}

    before, fetched = _instances(platform, "shop"), len(index.asked)
    clone.deploy({HANDLER: code + "# only the code\n"})
    assert _instances(platform, "shop") == before
    platform.create("twin", {**app_files("twin", CODE), REQUIREMENTS: "# the same\ntiny==1.0\nnative\n"})
    assert platform.answer("twin") == {"tiny": "1.0"}
    assert (len(index.asked), len(_environments(platform))) == (fetched, 1)

    clone.deploy({REQUIREMENTS: "tiny==2.0\nnative\n"})
    assert platform.answer("shop", "/fork") == {"tiny": "2.0", "native": 1}
    # It was live before the last of the others had drained.
    wait_until(lambda: not _instances(platform, "shop") & before, "the instances before are gone")


NODE_CODE = """\
import tiny, { VERSION } from "tiny";
import { required } from "./handler.cjs";

export const handle = () => ({ tiny: VERSION, required, same: tiny.VERSION === VERSION });
"""


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm, which installs the packages, is not in PATH")
def test_npm_packages_are_imported_in_every_mode_and_replaced(
    platform: Platform, index: PackageIndex
) -> None:
    def lists(version: str) -> dict[str, str]:
        integrity = index.add_npm("tiny", version, {"index.js": f"exports.VERSION = '{version}';"})
        return npm_lists("tiny", version, integrity)

    pools = "".join(
        f"    - {{poolName: {mode}, dockerImage: uhlp/node_runner, executionMode: {mode}}}\n"
        for mode in MODES
    )
    routes = "".join(
        f"  - componentId: {mode}\n    handlerType: JIT\n    targetPoolName: {mode}\n"
        "    taskDetails: {language: javascript, script: _jit_code/node/v1/handler.mjs, function: handle}\n"
        f"    routeMatcher: {{pathPattern: /{mode}, methods: [GET]}}\n"
        for mode in MODES
    )
    code = {
        "state/_jit_code/node/v1/handler.mjs": NODE_CODE,
        "state/_jit_code/node/v1/handler.cjs": "exports.required = require('tiny').VERSION;\n",
    }
    files = app_files("shop", "def handle(input, context):\n    return 1\n", pool=pools, routes=routes)
    clone = platform.create("shop", files | code | lists("1.0.0"))
    for mode in MODES:
        assert platform.answer("shop", f"/{mode}") == {"tiny": "1.0.0", "required": "1.0.0", "same": True}
    clone.deploy(lists("1.1.0"))
    assert platform.answer("shop", "/server") == {"tiny": "1.1.0", "required": "1.1.0", "same": True}


def _refused_for(clone: Clone, requirements: str) -> str:
    clone.commit({REQUIREMENTS: requirements})
    pushed = clone.push()
    assert "✘ not live: DependenciesNotInstalled" in pushed.err, pushed.err
    return pushed.err


def test_what_cannot_be_installed_is_told_in_pips_words_and_the_last_good_revision_serves(
    platform: Platform, index: PackageIndex
) -> None:
    clone = platform.create("shop", {**app_files("shop", CODE), REQUIREMENTS: "tiny==1.0\n"})
    told = _refused_for(clone, "tiny==9.9\n")
    assert "No matching distribution found for tiny==9.9" in told
    assert platform.answer("shop") == {"tiny": "1.0"}

    good = index.add_wheel("hashed", "1", {"hashed.py": ""})
    told = _refused_for(clone, f"tiny==1.0 --hash=sha256:{'0' * 64}\nhashed==1 --hash={good}\n")
    assert "DO NOT MATCH THE HASHES" in told
    told = _refused_for(clone, f"tiny==1.0\nhashed==1 --hash={good}\n")
    assert "Hashes are required in --require-hashes mode" in told

    clone.commit({REQUIREMENTS: "--extra-index-url https://elsewhere.invalid\n"})
    assert f"{REQUIREMENTS}:1:1 DEPENDENCY_SOURCE" in clone.push().err
    clone.git("reset", "--hard", "HEAD~1")
    status = platform.uhlp("status", "shop", "--json").json["deployments"][0]
    assert status["reason"] == "DependenciesNotInstalled"
    clone.deploy({REQUIREMENTS: "tiny==2.0\n"})
    assert platform.answer("shop") == {"tiny": "2.0"}


def test_an_index_that_is_away_is_asked_again_and_meanwhile_the_last_good_revision_serves(
    platform: Platform, index: PackageIndex
) -> None:
    clone = platform.create("shop", {**app_files("shop", CODE), REQUIREMENTS: "tiny==1.0\n"})
    index.is_away = True
    commit = clone.commit({REQUIREMENTS: "tiny==2.0\n"})
    clone.push("-o", "no-wait", "origin", "HEAD:main")

    def status() -> dict[str, object]:
        found: dict[str, object] = json.loads(platform.uhlp("status", "shop", "--json").out)["deployments"][0]
        return found

    wait_until(lambda: status()["reason"] == "DependenciesUnavailable", "the index is missed")
    assert platform.answer("shop") == {"tiny": "1.0"}
    index.is_away = False
    wait_until(lambda: status()["applied"] == commit, "it is installed after all")
    assert platform.answer("shop") == {"tiny": "2.0"}


def test_a_daemon_killed_while_it_installs_leaves_nothing_half_done(
    platform: Platform, index: PackageIndex
) -> None:
    clone = platform.create("shop", {**app_files("shop", CODE), REQUIREMENTS: "tiny==1.0\n"})
    [done] = _environments(platform)
    index.hold.clear()
    commit = clone.commit({REQUIREMENTS: "tiny==2.0\n"})
    clone.push("-o", "no-wait", "origin", "HEAD:main")
    wait_until(lambda: "/files/tiny/tiny-2.0-py3-none-any.whl" in index.asked, "pip is in the middle")
    platform.kill("sandboxes")
    wait_until(
        lambda: index.asked.count("/files/tiny/tiny-2.0-py3-none-any.whl") == 2, "it is installed once more"
    )
    assert platform.answer("shop") == {"tiny": "1.0"}
    index.hold.set()
    wait_until(
        lambda: platform.uhlp("status", "shop", "--json").json["deployments"][0]["applied"] == commit,
        "it is installed after all",
    )
    assert platform.answer("shop") == {"tiny": "2.0"}
    places = _environments(platform)
    assert len(places) == 2 and done in places
    assert not list(platform.home.glob("environments/*/.*"))
