"""Published servers of others, configured by the YAML of docs/community-servers.md: approved, then called."""

import json

import pytest
from aiohttp import web

from support.community import approve, names, text
from support.mcp_http_server import answering
from support.mcp_office import Office
from support.published_programs import documented_program, documented_server, postgres


async def test_time(office: Office) -> None:
    await approve(office, "time", documented_server("time"), documented_program("time"))
    assert await names(office) == ["community.time.convert_time", "community.time.get_current_time"]
    given = {"source_timezone": "UTC", "target_timezone": "Asia/Tokyo", "time": "12:00"}
    found = json.loads(await text(office, "time.convert_time", **given))
    assert found["time_difference"] == "+9.0h"
    refused = await office.refused("a0", "community.time.convert_time", **given | {"time": "noon"})
    assert refused.startswith("TOOL_FAILED: ")


async def test_sqlite_keeps_its_database(office: Office) -> None:
    await approve(office, "sqlite", documented_server("sqlite"), documented_program("sqlite"))
    await text(office, "sqlite.create_table", query="CREATE TABLE notes (text TEXT)")
    await text(office, "sqlite.write_query", query="INSERT INTO notes VALUES ('kept')")
    found = await text(office, "sqlite.read_query", query="SELECT text FROM notes")
    assert found == "[{'text': 'kept'}]"
    assert (office.settings.home.mcp_servers / "alpha" / "sqlite" / "notes.db").exists()


async def test_fetch(office: Office) -> None:
    documented, program = documented_server("fetch"), documented_program("fetch")
    async with answering(web.Response(text="the page", content_type="text/plain")) as url:
        await approve(office, "fetch", documented, program)
        assert "private" in await office.refused("a0", "community.fetch.fetch", url=url)
        # What the tests can reach is on this machine.
        options = documented | {"args": ["--allow-private-ips"]}
        await approve(office, "fetch", options, program)
        assert "the page" in await text(office, "fetch.fetch", url=url)
        # Without the operator's word there is no network.
        shut = program.model_copy(update={"network": False})
        await approve(office, "fetch", options, shut)
        assert "Failed to fetch" in await office.refused("a0", "community.fetch.fetch", url=url)


async def test_filesystem_has_its_own_folder_and_no_other(office: Office) -> None:
    server = documented_server("files") | {"tools": ["read_*", "write_file", "list_*"]}
    await approve(office, "files", server, documented_program("filesystem"))
    offered = await names(office)
    assert "community.files.write_file" in offered
    assert "community.files.move_file" not in offered
    folder = office.settings.home.mcp_servers / "alpha" / "files"
    written = await text(office, "files.write_file", path=f"{folder}/a.txt", content="kept")
    assert "Successfully" in written
    assert (folder / "a.txt").read_text() == "kept"
    refused = await office.refused("a0", "community.files.read_text_file", path="/etc/passwd")
    assert "outside allowed directories" in refused


async def test_postgres(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    server, program = documented_server("database.postgres"), documented_program("postgres")
    with postgres() as address:
        monkeypatch.setenv("UHLP_SECRET_ALPHA__DATABASE", address)
        await approve(office, "database.postgres", server, program)
        assert await names(office) == ["community.database.postgres.query"]
        found = await text(office, "database.postgres.query", sql="SELECT 40 + 2 AS sum")
        assert json.loads(found) == [{"sum": 42}]
        refused = await office.refused("a0", "community.database.postgres.query", sql="CREATE TABLE t ()")
        assert "read-only transaction" in refused
