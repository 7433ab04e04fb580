"""The part of `uhlp doctor` about containers: the engine, its images and runtimes, and what runs in it.

Looks only, like `health`.
"""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from uhlp_cli.health import Check, Verdict, disk_check
from uhlp_cli.repos import app_names, heads
from uhlp_core.settings import Settings
from uhlp_reconcilers.backends.docker import RUNSC, DockerBackend
from uhlp_reconcilers.backends.docker_engine import Details, Engine
from uhlp_reconcilers.backends.protocol import BackendError
from uhlp_reconcilers.images import build, recipe

_LIMITS = {"MemoryLimit": "memory", "CpuCfsQuota": "CPU", "PidsLimit": "processes"}
"""What the engine says it can limit, by the names that it has for it."""

_SOCKETS = ("--host-uds=all", "--host-uds=open", "--host-uds=create")


def check_containers(settings: Settings) -> list[Check]:
    """Every check; only the first where no engine answers."""
    engine = Engine()
    try:
        info = engine.info()
    except BackendError as error:
        return [_no_engine(settings, error)]
    checks: list[Callable[[], Check]] = [
        lambda: _images(engine),
        lambda: _gvisor(info),
        lambda: _limits(info),
        lambda: _containers(settings),
        lambda: disk_check("docker-disk", Path(info["DockerRootDir"]), "images and containers"),
    ]
    found = [Check("docker", Verdict.OK, f"engine {info['ServerVersion']}")]
    try:
        found += [check() for check in checks]
    except BackendError as error:
        found.append(_no_engine(settings, error))
    finally:
        engine.close()
    return found


def _no_engine(settings: Settings, error: BackendError) -> Check:
    wanted = settings.isolation == "docker" or DockerBackend(settings.home).has_started_any()
    there = shutil.which("dockerd") or shutil.which("docker")
    return Check(
        "docker",
        Verdict.FAIL if wanted else Verdict.WARN,
        str(error) if there or wanted else "not found",
        "start the Docker engine"
        if there
        else "install Docker: pools with `isolation: docker` or `gvisor` need it, and so does untrusted code",
    )


def _images(engine: Engine) -> Check:
    found = build.built(engine)
    wanted = [recipe.tag(name) for name in recipe.IMAGES]
    missing = [tag for tag in wanted if tag not in {image.tag for image in found}]
    if missing:
        old = sum(1 for image in found if not image.wanted)
        others = f"; of other versions there are {old}, which are never run" if old else ""
        return Check("images", Verdict.WARN, f"missing: {', '.join(missing)}{others}", "uhlp images build")
    return Check("images", Verdict.OK, ", ".join(wanted))


def _gvisor(info: Details) -> Check:
    runtime = info["Runtimes"].get(RUNSC)
    if runtime is None:
        return Check("gvisor", Verdict.OK, f"no runtime {RUNSC}: pools with `isolation: gvisor` are refused")
    arguments = runtime.get("runtimeArgs") or []
    if not any(argument in _SOCKETS for argument in arguments):
        remedy = "give it the runtimeArgs of docs/docker.md, and restart the engine"
        return Check("gvisor", Verdict.WARN, f"{RUNSC} without --host-uds=all cannot be reached", remedy)
    return Check("gvisor", Verdict.OK, " ".join([RUNSC, *arguments]))


def _limits(info: Details) -> Check:
    missing = [what for name, what in _LIMITS.items() if not info.get(name)]
    found = f"version {info['CgroupVersion']}"
    if missing:
        remedy = "enable these controllers in the kernel's command line: containers run without such limits"
        return Check("cgroups", Verdict.WARN, f"{found}, cannot limit {', '.join(missing)}", remedy)
    return Check("cgroups", Verdict.OK, f"{found}, limit {', '.join(_LIMITS.values())}")


def _containers(settings: Settings) -> Check:
    """Whether a container of this home is for no deployment that Git names, or of another version."""
    backend = DockerBackend(settings.home)
    try:
        instances = asyncio.run(backend.list())
    finally:
        backend.close()
    home = settings.home
    wanted = {head.deployment.id for app in app_names(home) for head in heads(home, app)}
    left = [instance.container or "" for instance in instances if instance.deployment not in wanted]
    outdated = [instance.container or "" for instance in instances if instance.is_outdated]
    if left:
        found = f"without a deployment: {', '.join(left)}"
        return Check("containers", Verdict.WARN, found, "the running platform removes them: `uhlp up`")
    if outdated:
        found = f"with another version's image: {', '.join(outdated)}"
        remedy = "they serve on; `docker rm -f` one after the other has them replaced by this version's"
        return Check("containers", Verdict.WARN, found, remedy)
    return Check("containers", Verdict.OK, f"{len(instances)} of this home")
