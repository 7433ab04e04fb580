"""The tools `core.filesystem.*`: files of one deployment, and no way out of its folder."""

import base64
import os

import pytest

from support.mcp_office import Office
from uhlp_mcp import data_folder

READ, WRITE = "core.filesystem.readFile", "core.filesystem.writeFile"
DELETE, LIST = "core.filesystem.deleteFile", "core.filesystem.listDirectory"


async def test_files_are_written_appended_read_listed_and_deleted(office: Office) -> None:
    assert await office.call("a0", LIST) == {"entries": []}
    assert await office.call("a0", WRITE, path="out/a.txt", content="ä\n") == {"success": True, "size": 3}
    assert await office.call("a0", WRITE, path="out/a.txt", content="b", append=True) == {
        "success": True,
        "size": 4,
    }
    assert await office.call("a0", READ, path="out/a.txt") == {
        "content": "ä\nb",
        "encoding": "utf-8",
        "size": 4,
    }
    assert await office.call("a0", READ, path="out/a.txt", offset=3, length=1) == {
        "content": "b",
        "encoding": "utf-8",
        "size": 4,
    }
    raw = base64.b64encode(b"\xff\0").decode()
    await office.call("a0", WRITE, path="raw", content=raw, encoding="base64")
    assert (await office.call("a0", READ, path="raw", encoding="base64"))["content"] == raw
    assert "encoding base64" in await office.refused("a0", READ, path="raw")
    assert await office.call("a0", LIST) == {
        "entries": [
            {"name": "out", "type": "directory", "size": 0},
            {"name": "raw", "type": "file", "size": 2},
        ]
    }
    assert "not empty" in await office.refused("a0", DELETE, path="out")
    assert await office.call("a0", DELETE, path="out/a.txt") == {"success": True}
    assert await office.call("a0", DELETE, path="out/a.txt") == {"success": False}
    assert await office.call("a0", DELETE, path="out") == {"success": True}
    assert (await office.refused("a0", READ, path="out/a.txt")).startswith("NOT_FOUND")


async def test_each_deployment_has_files_of_its_own(office: Office) -> None:
    await office.publish("alpha@next")
    await office.add("alpha@next", "p0")
    await office.call("a0", WRITE, path="secret", content="alpha's")
    foreign = await office.refused("b0", READ, path="secret")
    assert foreign == await office.refused("p0", READ, path="secret")
    assert foreign == (await office.refused("b0", READ, path="absent")).replace("absent", "secret")
    assert await office.call("b0", LIST) == {"entries": []}


@pytest.mark.parametrize(
    "path",
    ["../beta/x", "/etc/passwd", "a/../../x", ".", "a//b", "a/", "./a", "a\0b", "a\nb", "..", ".uhlp-x"],
)
async def test_no_path_leads_out(office: Office, path: str) -> None:
    for tool, more in ((READ, {}), (WRITE, {"content": "x"}), (DELETE, {})):
        assert "is not a path in the data folder" in await office.refused("a0", tool, path=path, **more)


async def test_links_that_somebody_put_there_are_not_followed(office: Office) -> None:
    await office.call("a0", WRITE, path="d/x", content="x")
    folder = office.settings.home.data / "alpha"
    (folder / "file").symlink_to("/etc/passwd")
    (folder / "dir").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    assert "root:" not in await office.refused("a0", READ, path="file")
    assert "root:" not in await office.refused("a0", READ, path="dir/passwd")
    await office.refused("a0", WRITE, path="dir/uhlp-test", content="x")
    await office.refused("a0", WRITE, path="file", content="x", append=True)
    await office.refused("a0", READ, path="pipe")
    await office.refused("a0", READ, path="d")
    assert [entry["name"] for entry in (await office.call("a0", LIST))["entries"]] == ["d", "pipe"]


async def test_what_a_deployment_keeps_is_bounded(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_folder, "MAX_FILE_BYTES", 10)
    monkeypatch.setattr(data_folder, "MAX_FOLDER_BYTES", 15)
    monkeypatch.setattr(data_folder, "MAX_FILES", 2)
    await office.call("a0", WRITE, path="a", content="x" * 10)
    assert (await office.refused("a0", WRITE, path="a", content="x", append=True)).startswith(
        "QUOTA_EXCEEDED"
    )
    assert "more than 15 bytes" in await office.refused("a0", WRITE, path="b", content="x" * 6)
    await office.call("a0", WRITE, path="b", content="x")
    assert "there are 2 files and folders" in await office.refused("a0", WRITE, path="c", content="x")
    assert (await office.call("a0", READ, path="a"))["size"] == 10
    folder = office.settings.home.data / "alpha"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


async def test_folders_count_also_those_that_a_refused_write_made(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_folder, "MAX_FILES", 5)
    monkeypatch.setattr(data_folder, "MAX_FILE_BYTES", 1)
    for number in range(9):
        text = await office.refused("a0", WRITE, path=f"a{number}/b/c", content="too much")
        assert text.startswith("QUOTA_EXCEEDED: ")
    folder = office.settings.home.data / "alpha"
    assert len(list(folder.rglob("*"))) == 4


async def test_what_a_killed_daemon_was_writing_goes_by_itself(office: Office) -> None:
    await office.call("a0", WRITE, path="out/a", content="x")
    folder = office.settings.home.data / "alpha/out"
    old, new = folder / ".uhlp-0123456789abcdef", folder / ".uhlp-fedcba9876543210"
    for draft in (old, new):
        draft.write_bytes(b"half")
    os.utime(old, (0, 0))
    await office.call("a0", WRITE, path="b", content="x")
    assert (old.exists(), new.exists()) == (False, True)
    os.utime(new, (0, 0))
    await office.call("a0", DELETE, path="out/a")
    assert await office.call("a0", DELETE, path="out") == {"success": True}
    assert not folder.exists()


async def test_a_name_is_as_long_as_file_systems_take(office: Office) -> None:
    longest = "ä" * 127 + "x"
    await office.call("a0", WRITE, path=longest, content="x")
    assert [entry["name"] for entry in (await office.call("a0", LIST))["entries"]] == [longest]
    told = await office.refused("a0", WRITE, path=f"out/{longest}x", content="x")
    assert told.startswith("INVALID_INPUT: a part of a path has at most 255 bytes")
