"""A whole platform whose pools are containers: what people see of them, and what they may mount."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker as sdk
import pytest

from e2e.platform_under_test import Clone, Platform, answering, app_files
from support.waiting import wait_until

MIB = 1 << 20
READS = """
def handle(input, context):
    found = {}
    for name in ("open", "shut"):
        try:
            with open(f"/mnt/{name}/note") as file:
                found[name] = file.read()
            with open(f"/mnt/{name}/more", "w") as file:
                file.write("written")
            found[name] += " and written"
        except OSError as error:
            found[name] = found.get(name, "") + " " + error.strerror
    return found
"""


@pytest.fixture(scope="module")
def platform(image: str) -> Iterator[Platform]:
    running = Platform(settings={"UHLP_ISOLATION": "docker"})
    try:
        running.start()
        yield running
    finally:
        running.close()


def instances(platform: Platform, app: str) -> list[dict[str, Any]]:
    [deployment] = platform.uhlp("status", app, "--json").json["deployments"]
    return [found for pool in deployment["pools"] for found in pool["instances"]]


def metrics(platform: Platform, name: str, app: str) -> dict[str, float]:
    """The values of a metric of an app, by its labels as they are written."""
    lines = platform.request("GET", "/metrics").body.decode().splitlines()
    found = [line.rpartition(" ") for line in lines if line.startswith(name + "{") and f'app="{app}"' in line]
    return {labels: float(value) for labels, _, value in found}


def test_what_people_see(platform: Platform, api: sdk.APIClient) -> None:
    platform.create("seen", app_files("seen", answering("here")))
    [first] = wait_until(
        lambda: [one for one in instances(platform, "seen") if one["memoryBytes"]], "its numbers are there"
    )
    assert (first["state"], first["backend"], first["outdated"]) == ("ready", "docker", False)
    assert first["memoryLimitBytes"] == (256 + 64) * MIB
    assert 4 * MIB < first["memoryBytes"] < 64 * MIB
    assert 0 < first["cpuSeconds"] < 30
    assert first["processes"] >= 3
    assert (first["restarts"], first["lastExit"]) == (0, None)
    [container] = api.containers(filters={"label": f"uhlp.instance={first['instance']}"})
    assert container["Names"] == [f"/{first['container']}"]

    api.kill(first["container"])
    [second] = wait_until(
        lambda: [
            one
            for one in instances(platform, "seen")
            if one["instance"] != first["instance"] and one["memoryBytes"]
        ],
        "it is replaced",
    )
    assert (second["restarts"], second["lastExit"]) == (1, "killed by SIGKILL")
    table = platform.uhlp("status", "seen").out
    assert f"{second['container']}\tkilled by SIGKILL" in table
    assert "of 320 MiB" in table
    labels = '{app="seen",deployment="seen",pool="main",reason="killed"}'
    assert metrics(platform, "uhlp_sandbox_restarts_total", "seen") == {
        f"uhlp_sandbox_restarts_total{labels}": 1.0
    }
    states = metrics(platform, "uhlp_sandbox_instances", "seen")
    assert {labels for labels, count in states.items() if count} == {
        'uhlp_sandbox_instances{app="seen",backend="docker",deployment="seen",pool="main",state="ready"}'
    }
    [memory] = metrics(platform, "uhlp_sandbox_memory_bytes", "seen").values()
    assert memory > 4 * MIB
    [cpu] = metrics(platform, "uhlp_sandbox_cpu_seconds_total", "seen").values()
    assert cpu > first["cpuSeconds"]

    lines = platform.uhlp("logs", "seen", "--instance", second["instance"], "--json").out.splitlines()
    assert {json.loads(line)["instance"] for line in lines} == {second["instance"]}
    assert platform.uhlp("logs", "seen", "--pool", "none").out == ""
    checks = {check["name"]: check for check in platform.uhlp("doctor", "--json").json["checks"]}
    assert checks["containers"]["found"] == "1 of this home"
    assert [checks[name]["verdict"] for name in ("docker", "images", "cgroups", "clock")] == ["ok"] * 4


@pytest.fixture
def rules(platform: Platform) -> Clone:
    """A clone of the platform's own repo."""
    platform.uhlp("app", "suspend", "seen")
    platform.uhlp("app", "resume", "seen")
    clone = platform.new_clone("platform")
    clone.git("pull", "--quiet", "origin", "main")
    return clone


def pool(*mounts: str) -> str:
    return f"      volumeMounts: {json.dumps(mounts)}\n"


def test_mounts(platform: Platform, rules: Clone) -> None:
    data = Path(os.path.realpath(tempfile.mkdtemp(prefix="um-", dir=platform.work)))
    for folder in (platform.work, data):
        folder.chmod(0o755)
    for name in ("open", "shut"):
        (data / name).mkdir()
        (data / name).chmod(0o777)
        (data / name / "note").write_text("there")
    writable, readable = f"{data}/open:/mnt/open:rw", f"{data}/shut:/mnt/shut"
    app = platform.new_clone("mounting", f"{platform.state['control']}/git/mounting.git")
    app.commit(app_files("mounting", READS, pool=pool(writable, readable)))
    refused = app.push()
    assert refused.code != 0
    place = "state/app_definition.yaml:8:22 MOUNT_NOT_ALLOWED"
    assert f"{place} the mount '{writable}' is not allowed" in refused.err

    assert rules.commit({"state/platform.yaml": f"allowedMounts: ['{writable}', '{readable}']\n"})
    assert rules.push().code == 0
    pushed = app.push()
    assert "✔ live at" in pushed.err, pushed.err
    assert platform.answer("mounting") == {"open": "there and written", "shut": "there Read-only file system"}
    assert (data / "open" / "more").read_text() == "written"

    # A link where the folder was leads the next instance nowhere.
    (data / "shut").rename(data / "moved")
    (data / "shut").symlink_to("/etc")
    [before] = instances(platform, "mounting")
    os.kill(before["pid"], 9)
    wait_until(
        lambda: "has a symbolic link and leads to /etc" in platform.uhlp("status", "mounting").out,
        "the link is refused",
    )
    (data / "shut").unlink()
    (data / "moved").rename(data / "shut")
    wait_until(lambda: instances(platform, "mounting"), "it heals by itself")

    # What is allowed no more ends, and the status says where it is written.
    assert rules.commit({"state/platform.yaml": f"allowedMounts: ['{readable}']\n"})
    assert rules.push().code == 0
    wait_until(lambda: not instances(platform, "mounting"), "the instance that mounts it is gone")
    told = platform.uhlp("status", "mounting").out
    assert "Stalled" in told
    assert f"the mount '{writable}' is not allowed on this platform" in told
    assert platform.request("GET", "/", app="mounting").status == 503
    app.commit(app_files("mounting", READS, pool=pool(readable)))
    assert "✔ live at" in app.push().err
    assert platform.answer("mounting")["shut"] == "there Read-only file system"
