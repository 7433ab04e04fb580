"""Doors open and close with their instances, and a hostile folder leads nowhere."""

import stat

from support.mcp_office import Office, listens
from support.waiting import eventually


async def test_only_owner_and_group_of_the_folder_may_connect(office: Office) -> None:
    door, folder = office.door("a0").stat(), office.door("a0").parent.stat()
    assert stat.S_IMODE(door.st_mode) == 0o660
    assert (door.st_uid, door.st_gid) == (folder.st_uid, folder.st_gid)


async def test_a_door_closes_when_its_instance_is_gone(office: Office) -> None:
    await office.remove("alpha", "a0")

    async def closed() -> bool:
        return not await listens(office.door("a0"))

    await eventually(closed, "the door closes")
    assert await listens(office.door("b0"))


async def test_a_door_that_was_deleted_is_made_again(office: Office) -> None:
    office.door("a0").unlink()
    await office.add("alpha", "a1")  # any wake-up
    await eventually(lambda: listens(office.door("a0")), "the door is back")


async def test_a_symlink_in_place_of_the_socket_is_not_followed(office: Office) -> None:
    victim = office.settings.home.root / "victim"
    victim.write_text("precious")
    victim.chmod(0o640)
    folder = office.settings.home.sandboxes / "evil"
    folder.mkdir()
    (folder / "mcp.sock").symlink_to(victim)
    await office.add("alpha", "evil")
    assert victim.read_text() == "precious"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o640
    assert stat.S_ISSOCK((folder / "mcp.sock").lstat().st_mode)


async def test_a_folder_that_is_a_symlink_is_not_entered(office: Office) -> None:
    elsewhere = office.settings.home.root / "elsewhere"
    elsewhere.mkdir()
    (office.settings.home.sandboxes / "evil").symlink_to(elsewhere)
    await office.redis.hset("uhlp:instances:alpha", "evil", f'{{"dir": "{office.door("evil").parent}"}}')
    await office.add("alpha", "a2")
    assert list(elsewhere.iterdir()) == []


async def test_doors_stay_open_while_redis_is_away(office: Office) -> None:
    office.redis_server.kill()
    answer = await office.rpc("a0", "tools/list")
    assert len(answer["result"]["tools"]) == 10
    office.redis_server.start()
    await eventually(office.redis_server.path.exists, "Redis is back")
    assert await office.call("a0", "core.state.getRuntimeValue", key="k") == {"found": False}
