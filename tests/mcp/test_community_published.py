"""Published servers of others, as docs/community-servers.md configures them: approved, then called."""

import json
from typing import Any

import pytest
from aiohttp import web

from support.community import approve, names, text
from support.mcp_http_server import answering
from support.mcp_office import Office
from support.published_programs import node_server, postgres, python_server


async def test_time(office: Office) -> None:
    program = python_server("mcp-server-time")
    await approve(office, "time", {"command": "time", "args": ["--local-timezone", "UTC"]}, program)
    assert await names(office) == ["community.time.convert_time", "community.time.get_current_time"]
    given = {"source_timezone": "UTC", "target_timezone": "Asia/Tokyo", "time": "12:00"}
    found = json.loads(await text(office, "time.convert_time", **given))
    assert found["time_difference"] == "+9.0h"
    refused = await office.refused("a0", "community.time.convert_time", **given | {"time": "noon"})
    assert refused.startswith("TOOL_FAILED: ")


async def test_sqlite_keeps_its_database(office: Office) -> None:
    server = {"command": "sqlite", "args": ["--db-path", "notes.db"]}
    # It was written for the first version of the SDK.
    await approve(office, "sqlite", server, python_server("mcp-server-sqlite", "sqlite.lock"))
    await text(office, "sqlite.create_table", query="CREATE TABLE notes (text TEXT)")
    await text(office, "sqlite.write_query", query="INSERT INTO notes VALUES ('kept')")
    found = await text(office, "sqlite.read_query", query="SELECT text FROM notes")
    assert found == "[{'text': 'kept'}]"
    assert (office.settings.home.mcp_servers / "alpha" / "sqlite" / "notes.db").exists()


async def test_fetch(office: Office) -> None:
    program = python_server("mcp-server-fetch", network=True)
    async with answering(web.Response(text="the page", content_type="text/plain")) as url:
        options = {"command": "fetch", "args": ["--ignore-robots-txt", "--allow-private-ips"]}
        await approve(office, "fetch", options, program)
        assert "the page" in await text(office, "fetch.fetch", url=url)
        # Without the operator's word there is no network.
        shut = python_server("mcp-server-fetch")
        await approve(office, "fetch", options, shut)
        assert "Failed to fetch" in await office.refused("a0", "community.fetch.fetch", url=url)


async def test_filesystem_has_its_own_folder_and_no_other(office: Office) -> None:
    server: dict[str, Any] = {"command": "files", "args": ["."], "tools": ["read_*", "write_file", "list_*"]}
    await approve(office, "files", server, node_server("server-filesystem"))
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
    program = node_server("server-postgres", network=True)
    with postgres() as address:
        monkeypatch.setenv("UHLP_SECRET_ALPHA__DATABASE", address)
        await approve(office, "database.postgres", {"command": "pg", "args": ["secret:database"]}, program)
        assert await names(office) == ["community.database.postgres.query"]
        found = await text(office, "database.postgres.query", sql="SELECT 40 + 2 AS sum")
        assert json.loads(found) == [{"sum": 42}]
        refused = await office.refused("a0", "community.database.postgres.query", sql="CREATE TABLE t ()")
        assert "read-only transaction" in refused
