"""Git over HTTP with the real Git client against the control daemon: protocol, new apps, limits."""

import asyncio
import gzip
import os

import aiohttp
import pytest

from git.git_world import World, app_files, control, fetch
from support.waiting import eventually
from uhlp_control import body, new_apps
from uhlp_core.errors import InvalidInput
from uhlp_state.git_repo import heads

RECEIVE = {"Content-Type": "application/x-git-receive-pack-request"}
UPLOAD = {"Content-Type": "application/x-git-upload-pack-request"}


def in_thread(function, *arguments, **named):
    """Git blocks; the control daemon lives in this loop."""
    return asyncio.to_thread(function, *arguments, **named)


async def post(url, **options):
    return await fetch(url, "POST", **options)


async def test_push_clone_and_fetch(world, receiver, tmp_path):
    work = world.clone(tmp_path / "work")
    async with control(world) as address:
        pushed = await in_thread(work.push, f"{address}/git/hello.git")
        assert pushed.returncode == 0, pushed.stderr
        assert "✔ validated main (3 files)" in pushed.stderr
        done = await in_thread(work.run, "clone", "--quiet", f"{address}/git/hello.git", tmp_path / "copy")
        assert done.returncode == 0, done.stderr
        work.commit({"state/notes.txt": "more\n"})
        await in_thread(work.push, f"{address}/git/hello.git")
        copy = type(work)(tmp_path / "copy")
        await in_thread(copy.git, "pull", "--quiet")
        assert copy.git("rev-parse", "HEAD") == work.git("rev-parse", "HEAD")
    assert receiver.requests[0]["pusher"] == "git over http"


async def test_fetch_speaks_protocol_2_and_0(world, receiver, tmp_path):
    work = world.clone(tmp_path / "work")
    async with control(world) as address:
        await in_thread(work.push, f"{address}/git/hello.git")
        for version, marker in (("2", "version 2"), ("0", "")):
            done = await in_thread(
                work.run,
                "-c",
                f"protocol.version={version}",
                "ls-remote",
                f"{address}/git/hello.git",
                GIT_TRACE_PACKET="1",
            )
            assert done.returncode == 0 and marker in done.stderr
            assert done.stdout.split() == [
                work.git("rev-parse", "HEAD"), "HEAD", work.git("rev-parse", "HEAD"), "refs/heads/main",
            ]  # fmt: skip


async def test_partial_clone(world, receiver, tmp_path):
    work = world.clone(tmp_path / "work")
    async with control(world) as address:
        await in_thread(work.push, f"{address}/git/hello.git")
        done = await in_thread(
            work.run,
            "clone",
            "--quiet",
            "--filter=blob:none",
            "--bare",
            f"{address}/git/hello.git",
            tmp_path / "copy",
        )
        assert done.returncode == 0 and "not recognized" not in done.stderr


async def test_five_megabytes_in_chunks(world, receiver, tmp_path):
    """Larger than the client's buffer: it probes with four bytes first, then sends chunks."""
    work = world.clone(tmp_path / "work")
    work.commit({"state/ui/big.bin": os.urandom(5_000_000)})
    async with control(world) as address:
        done = await in_thread(work.push, f"{address}/git/hello.git")
        assert done.returncode == 0, done.stderr
        await in_thread(work.git, "clone", "--quiet", f"{address}/git/hello.git", tmp_path / "copy")
    assert (tmp_path / "copy/state/ui/big.bin").stat().st_size == 5_000_000


async def test_a_pack_beyond_the_limit_is_refused(tmp_path):
    world = World(tmp_path / "home", max_push_bytes=100_000)
    work = world.clone(tmp_path / "work")
    work.commit({"state/ui/big.bin": os.urandom(200_000)})
    async with control(world) as address:
        done = await in_thread(work.push, f"{address}/git/hello.git")
    assert done.returncode == 1
    assert "maximum allowed size" in done.stderr
    assert heads(world.home.repo("hello")) == {}


async def test_a_refused_first_push_leaves_no_app(world, receiver, tmp_path, monkeypatch):
    monkeypatch.setattr(new_apps, "GRACE_SECONDS", 1.0)
    work = world.clone(tmp_path / "work")
    work.commit({"state/app_definition.yaml": "appId: [\n"})
    async with control(world) as address:
        done = await in_thread(work.push, f"{address}/git/hello.git")
        assert done.returncode == 1 and "YAML_SYNTAX" in done.stderr
        await eventually(lambda: list(world.home.repos.iterdir()) == [], "the empty repo is removed")
        # And an app that has a commit stays.
        work.commit(app_files("hello"))
        assert (await in_thread(work.push, f"{address}/git/hello.git")).returncode == 0
        (await in_thread(work.run, "ls-remote", f"{address}/git/hello.git")).check_returncode()
        assert (await fetch(f"{address}/git/other.git/info/refs?service=git-receive-pack"))[0] == 200
        assert world.home.repo("other").exists()
        await eventually(lambda: not world.home.repo("other").exists(), "the empty repo is removed")
        assert heads(world.home.repo("hello")) == {"main": work.git("rev-parse", "HEAD")}


@pytest.mark.parametrize("name", ["Hello", "a--b", "www", "-x", "a" * 40, "x.y"])
async def test_names_that_no_app_can_have(world, tmp_path, name):
    work = world.clone(tmp_path / "work")
    async with control(world) as address:
        done = await in_thread(work.push, f"{address}/git/{name}.git")
    assert done.returncode == 128 and "cannot name an app" in done.stderr
    assert list(world.home.repos.iterdir()) == []


async def test_the_number_of_apps_is_bounded(world, receiver, tmp_path):
    platform = world.create("platform")
    rules = world.clone(tmp_path / "rules", "platform")
    rules.commit({"state/platform.yaml": "quotas:\n  maxApps: 1\n"})
    pushed = await in_thread(rules.push, platform)
    assert pushed.returncode == 0, pushed.stderr
    apps = new_apps.NewApps(world.settings)
    assert apps.create("one")
    assert not apps.create("one")
    with pytest.raises(InvalidInput, match="the platform holds 1 apps"):
        apps.create("two")


async def test_missing_repos_are_not_found(world, tmp_path):
    work = world.clone(tmp_path / "work")
    async with control(world) as address:
        done = await in_thread(work.run, "clone", f"{address}/git/nothing.git", tmp_path / "copy")
    assert done.returncode == 128 and "not found" in done.stderr
    assert list(world.home.repos.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/git/hello.git/info/refs", 403),
        ("/git/hello.git/info/refs?service=git-upload-archive", 403),
        ("/git/hello.git/HEAD", 404),
        ("/git/hello.git/objects/info/packs", 404),
        ("/git/..%2f..%2fetc.git/info/refs?service=git-upload-pack", 404),
        ("/git/hello.git/../../config.yaml", 404),
        ("/", 404),
    ],
)
async def test_what_is_not_served(world, path, status):
    world.create()
    async with control(world) as address:
        assert (await fetch(f"{address}{path}"))[0] == status


async def test_content_types_are_enforced(world):
    world.create()
    async with control(world) as address:
        for service in ("git-upload-pack", "git-receive-pack"):
            for content in ("text/plain", "application/x-www-form-urlencoded"):
                status, _, _ = await post(
                    f"{address}/git/hello.git/{service}", data=b"0000", headers={"Content-Type": content}
                )
                assert status == 415
        status, sent, _ = await post(
            f"{address}/git/hello.git/git-receive-pack", data=b"0000", headers=RECEIVE
        )
        assert (status, sent["Content-Type"]) == (200, "application/x-git-receive-pack-result")
        assert sent["Cache-Control"] == "no-cache, max-age=0, must-revalidate"


async def test_gzip_bodies(world, receiver, tmp_path):
    work = world.clone(tmp_path / "work")
    head = work.git("rev-parse", "HEAD")
    want = f"0032want {head}\n00000009done\n".encode()
    async with control(world) as address:
        await in_thread(work.push, f"{address}/git/hello.git")
        url = f"{address}/git/hello.git/git-upload-pack"
        headers = {**UPLOAD, "Content-Encoding": "gzip"}
        status, _, told = await post(url, data=gzip.compress(want), headers=headers)
        assert status == 200 and b"PACK" in told
        assert (await post(url, data=b"no gzip", headers=headers))[0] == 400
        # Git may have begun to answer before the end turns out to be missing, or not to be one.
        for broken in (gzip.compress(want)[:-4], gzip.compress(want) + b"x"):
            try:
                assert (await post(url, data=broken, headers=headers))[0] == 400
            except aiohttp.ClientPayloadError:
                continue
        other = {**UPLOAD, "Content-Encoding": "br"}
        assert (await post(url, data=want, headers=other))[0] == 415


async def test_a_gzip_bomb_is_cut_off(tmp_path):
    """An endless list of commands, a few kilobytes when compressed: refused at the limit, not at its end."""
    world = World(tmp_path / "home", max_push_bytes=100_000)
    world.create()
    command = f"{'0' * 40} {'1' * 40} refs/heads/x".encode()
    bomb = gzip.compress((b"%04x" % (len(command) + 4) + command) * 500_000)
    async with control(world) as address:
        status, _, told = await post(
            f"{address}/git/hello.git/git-receive-pack",
            data=bomb,
            headers={**RECEIVE, "Content-Encoding": "gzip"},
        )
    assert status == 413 and b"more than 1148576 bytes" in told


async def test_a_client_that_stops_sending_is_let_go(world, monkeypatch):
    monkeypatch.setattr(body, "IDLE_SECONDS", 0.1)
    world.create()
    async with control(world) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(
            b"POST /git/hello.git/git-receive-pack HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/x-git-receive-pack-request\r\nContent-Length: 1000\r\n\r\n00"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        await eventually(lambda: not _git_processes(world), "Git has ended")
        writer.close()
        await writer.wait_closed()


async def test_expect_continue(world):
    world.create()
    async with control(world) as address:
        status, _, _ = await post(
            f"{address}/git/hello.git/git-receive-pack", data=b"0000", headers=RECEIVE, expect100=True
        )
        assert status == 200


async def test_a_client_that_leaves_takes_its_git_process_along(world, tmp_path):
    world.create()
    host, port = "127.0.0.1", None
    async with control(world) as address:
        port = int(address.rpartition(":")[2])
        _, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"POST /git/hello.git/git-receive-pack HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/x-git-receive-pack-request\r\nContent-Length: 1000\r\n\r\n00"
        )
        await writer.drain()
        await eventually(lambda: _git_processes(world), "Git runs")
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: not _git_processes(world), "Git has ended")


def _git_processes(world):
    """Ids of the Git processes that work in this data folder."""
    needle = os.fsencode(world.home.root)
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/cmdline", "rb") as file:
                    words = file.read()
            except OSError:
                continue
            if b"receive-pack" in words and needle in words:
                found.append(int(entry.name))
    return found


async def test_without_hooks_no_push_is_taken(world, tmp_path):
    (world.home.hooks / "pre-receive").unlink()
    work = world.clone(tmp_path / "work")
    async with control(world) as address:
        done = await in_thread(work.push, f"{address}/git/hello.git")
        assert done.returncode == 128 and "the hooks are not installed yet" in done.stderr
        assert (await fetch(f"{address}/readyz"))[0] == 503
        assert (await fetch(f"{address}/healthz"))[0] == 200
