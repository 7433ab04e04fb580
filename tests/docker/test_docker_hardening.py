"""Every rule for containers, as the engine says that it holds for a running one."""

import os
from collections.abc import Awaitable, Callable

import pytest

from runner.sandbox import Sandbox
from uhlp_core.home import Home
from uhlp_reconcilers.backends.docker_engine import Details

Start = Callable[..., Awaitable[Sandbox]]
Inspect = Callable[[Sandbox], Details]
MIB = 1 << 20


async def test_the_running_container_keeps_every_rule(
    home: Home, image: str, start: Start, container_of: Inspect
) -> None:
    sandbox = await start(
        concurrency=2, memory_limit="128M", cpu_limit="0.5", max_processes=16, max_open_files=64
    )
    details = container_of(sandbox)
    host = details["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert set(details["NetworkSettings"]["Networks"]) == {"none"}
    assert host["ReadonlyRootfs"] is True
    assert host["Tmpfs"] == {"/tmp": f"rw,noexec,nosuid,nodev,size={64 * MIB},mode=1777"}
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges"], "and so the engine's default seccomp profile"
    assert host["Privileged"] is False
    assert (host["Memory"], host["MemorySwap"]) == (192 * MIB, 192 * MIB)
    assert host["NanoCpus"] == 500_000_000
    assert host["PidsLimit"] == 16 + 2 * 2 + 32
    assert {(limit["Name"], limit["Hard"]) for limit in host["Ulimits"]} == {("core", 0), ("nofile", 1104)}
    assert host["Init"] is True
    assert host["OomScoreAdj"] == 500
    assert (host["IpcMode"], host["PidMode"], host["UTSMode"]) == ("private", "", "")
    assert not host["Devices"] and not host["GroupAdd"] and not host["PortBindings"]
    assert host["RestartPolicy"]["Name"] == "no"
    assert details["Config"]["Image"] == image


async def test_only_what_is_its_own_is_mounted(home: Home, start: Start, container_of: Inspect) -> None:
    sandbox = await start()
    mounts = {
        mount["Source"]: (mount["Destination"], mount["RW"], mount["Propagation"])
        for mount in container_of(sandbox)["Mounts"]
    }
    assert mounts == {
        str(home.trees / "shop"): ("/uhlp/trees", False, "rprivate"),
        str(sandbox.instance.dir): (str(sandbox.instance.dir), True, "rprivate"),
        str(home.app_log("shop")): ("/uhlp/app.log", True, "rprivate"),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="apps get users of their own only from root")
async def test_apps_are_different_users(home: Home, start: Start, container_of: Inspect) -> None:
    users = [container_of(await start(app=app))["Config"]["User"] for app in ("shop", "bank", "shop")]
    uids = [int(user.split(":")[0]) for user in users]
    gids = [int(user.split(":")[1]) for user in users]
    assert len(set(uids)) == 3
    assert gids[0] == gids[2] != gids[1]
    assert 0 not in (*uids, *gids)


async def test_the_labels_tell_whose_it_is(start: Start, container_of: Inspect) -> None:
    sandbox = await start()
    labels = container_of(sandbox)["Config"]["Labels"]
    assert labels["uhlp.instance"] == sandbox.instance.instance
    assert (labels["uhlp.app"], labels["uhlp.deployment"]) == ("shop", "shop")
    assert (labels["uhlp.pool"], labels["uhlp.spec"]) == ("python", "spec")
    assert len(labels["uhlp.home"]) == 12


async def test_what_holds_is_told_from_the_inside(start: Start) -> None:
    sandbox = await start()
    _, answer = await sandbox.ask("GET", "/readyz")
    told = answer["protection"]
    assert {
        "not root",
        "no network",
        "read-only root",
        "private /tmp",
        "no capabilities",
        "no new privileges",
        "system calls filtered",
    } <= set(told["inForce"])
    in_force, missing = sandbox.backend.protection()
    assert in_force[: len(told["inForce"])] == told["inForce"]
    assert missing[-1] == "a kernel of its own: that takes `isolation: gvisor`"
