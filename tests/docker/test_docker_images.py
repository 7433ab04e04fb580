"""Images: their names follow from what they are made of, and no instance starts from another version's."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker as sdk
import pytest
from click.testing import CliRunner

import uhlp_runner
from runner.sandbox import Sandbox
from uhlp_cli.images import images as command
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker import RUNSC, DockerBackend
from uhlp_reconcilers.backends.docker_container import LIBRARIES
from uhlp_reconcilers.backends.docker_engine import Engine
from uhlp_reconcilers.backends.protocol import BackendError, InstanceSpec
from uhlp_reconcilers.images import build, recipe
from uhlp_state.model.pools import Isolation, ResourceLimits

RUNNER = Path(uhlp_runner.__file__).parent


@pytest.fixture
def other_version(tmp_path: Path) -> Path:
    """A copy of the images' sources that can be changed."""
    shutil.copytree(RUNNER, tmp_path / "uhlp_runner", ignore=shutil.ignore_patterns("__pycache__"))
    for name in recipe.IMAGES:
        shutil.copytree(RUNNER.parent / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def throw_away(api: sdk.APIClient) -> Iterator[str]:
    """The name of an image that is removed at the end."""
    name = f"uhlp-test/{os.getpid()}:latest"
    yield name
    api.remove_image(name, force=True)


def in_version(sources: Path, code: str) -> str:
    """What Python code prints where the images' sources are those."""
    path = os.pathsep.join([str(sources), *sys.path])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


TAG = "from uhlp_reconcilers.images import recipe; print(recipe.tag('python_runner'))"
NODE_TAG = TAG.replace("python_runner", "node_runner")


def test_the_tag_follows_from_the_content(other_version: Path) -> None:
    assert in_version(other_version, TAG) == recipe.tag("python_runner")
    cache = other_version / "uhlp_runner" / "__pycache__"
    cache.mkdir()
    (cache / "start.cpython-311.pyc").write_bytes(b"changes nothing")
    assert in_version(other_version, TAG) == recipe.tag("python_runner")
    tags = {recipe.tag("python_runner")}
    for name in ("uhlp_runner/start.py", "uhlp_runner/sdk/uhlp_sdk.py", "python_runner/Dockerfile"):
        path = other_version / name
        path.write_text(path.read_text() + "\n# another version\n")
        tags.add(in_version(other_version, TAG))
    assert len(tags) == 4


def test_an_image_changes_with_its_own_parts_only(other_version: Path) -> None:
    path = other_version / "uhlp_runner" / "node" / "worker.mjs"
    path.write_text(path.read_text() + "\n// another version\n")
    assert in_version(other_version, TAG) == recipe.tag("python_runner")
    assert in_version(other_version, NODE_TAG) != recipe.tag("node_runner")


def test_what_is_there_is_not_built_again(image: str, engine: Engine) -> None:
    told: list[str] = []
    assert build.build(engine, recipe.PYTHON_RUNNER, told.append) is False
    assert told == []
    [ours] = [found for found in build.built(engine) if found.tag == image]
    assert ours.wanted
    assert (ours.source, ours.version) == (image.split(":")[1], "0.1.0")


def test_the_runner_finds_the_platform_s_orjson_if_it_fits(image: str) -> None:
    code = (
        f"import sys; sys.path.extend({LIBRARIES!r})\n"
        "try:\n    import orjson\nexcept ImportError:\n    pass\n"
        "print(sys.version_info[:2], 'orjson' in sys.modules)"
    )
    command = ["docker", "run", "--rm", "--network", "none", image, "python3", "-I", "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if told.startswith(str(sys.version_info[:2])):
        assert told.endswith("True")


def test_another_version_is_not_run(image: str, home: Home, other_version: Path) -> None:
    path = other_version / "uhlp_runner" / "start.py"
    path.write_text(path.read_text() + "\n# another version\n")
    code = f"""
from pathlib import Path
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker import DockerBackend
from uhlp_reconcilers.backends.protocol import BackendError
try:
    DockerBackend(Home(Path({str(home.root)!r}))).check("uhlp/python_runner")
except BackendError as error:
    print(error)
"""
    told = in_version(other_version, code)
    assert told == (
        f"the image {in_version(other_version, TAG)} of this version is not there; run `uhlp images build`"
    )


async def test_containers_of_another_version_are_told_apart(
    home: Home, backend: DockerBackend, other_version: Path
) -> None:
    """What an update finds running serves on, and is said to be of before."""
    sandbox = Sandbox(home, backend, "shop", "fork")
    await sandbox.start()
    assert [found.is_outdated for found in await backend.list()] == [False]
    path = other_version / "uhlp_runner" / "start.py"
    path.write_text(path.read_text() + "\n# another version\n")
    code = f"""
from uhlp_cli.health_containers import check_containers
from uhlp_core.settings import Settings
checks = {{check.name: check for check in check_containers(Settings.load(home_dir={str(home.root)!r}))}}
print(checks["containers"].found)
print(checks["images"].found)
"""
    # A deployment that Git names, so that there is no other reason to speak of its container.
    git = [
        "git",
        f"--git-dir={home.repo('shop')}",
        "-c",
        "user.name=Ada",
        "-c",
        "user.email=ada@example.invalid",
    ]
    subprocess.run([*git, "init", "--quiet", "--bare", "--initial-branch=main"], check=True)
    in_worktree = ["--work-tree=.", "commit", "--quiet", "--allow-empty", "--message=Begin"]
    subprocess.run([*git, *in_worktree], check=True)
    containers, images = in_version(other_version, code).splitlines()
    assert containers == f"with another version's image: {sandbox.instance.container}"
    tags = [in_version(other_version, TAG.replace("python_runner", name)) for name in recipe.IMAGES]
    assert images.startswith(f"missing: {', '.join(tags)}; of other versions there are ")


def test_an_image_that_is_not_there(backend: DockerBackend) -> None:
    with pytest.raises(BackendError, match="acme/runner:1 is not on this machine"):
        backend.check("acme/runner:1")


def test_an_image_without_a_runner(
    backend: DockerBackend, engine: Engine, throw_away: str, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "root.tar", "w"):
        pass
    engine.load_root(tmp_path / "root.tar", *throw_away.split(":"))
    with pytest.raises(BackendError, match=r"has no runner, .* FROM uhlp/python_runner:[0-9a-f]{12}"):
        backend.check(throw_away)


def test_an_image_built_on_ours(
    image: str, backend: DockerBackend, api: sdk.APIClient, throw_away: str
) -> None:
    dockerfile = io.BytesIO(f"FROM {image}\nENV MORE=1\n".encode())
    for step in api.build(fileobj=dockerfile, tag=throw_away, rm=True, decode=True):
        assert "error" not in step
    backend.check(throw_away)


async def test_gvisor_where_there_is_none(home: Home, backend: DockerBackend, engine: Engine) -> None:
    if RUNSC in engine.info()["Runtimes"]:
        pytest.skip("this engine has gVisor")
    spec = InstanceSpec(
        instance="untrusted",
        app="shop",
        deployment="shop",
        pool="python",
        spec_hash="spec",
        mode="fork",
        concurrency=1,
        timeout_seconds=1.0,
        limits=ResourceLimits(),
        trees=home.trees / "shop",
        log=home.app_log("shop"),
        isolation=Isolation.GVISOR,
    )
    with pytest.raises(BackendError, match="gvisor needs the runtime runsc"):
        await backend.ensure(spec)
    assert await backend.list() == []


def test_the_commands(image: str, node_image: str) -> None:
    runner = CliRunner()
    done = runner.invoke(command, ["build"])
    assert done.exit_code == 0
    for each in (image, node_image):
        assert f"{each}  is there already\n" in done.output
    assert f"{recipe.tag(recipe.LLM_ORCHESTRATOR)}  " in done.output
    done = runner.invoke(command, ["build", "none"])
    assert done.exit_code == 2
    assert "there is no image 'none'; images: python_runner, node_runner" in done.output
    done = runner.invoke(command, ["list"])
    assert done.exit_code == 0
    assert [line.split("\t")[-1] for line in done.output.splitlines() if line.startswith(image)] == ["in use"]
