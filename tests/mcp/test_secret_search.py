"""The search that ends every test of a daemon finds what it is made for, wherever it was written."""

import logging
from pathlib import Path

import pytest

from support import leaks
from support.archive import Archive
from support.mcp_office import API_KEY, Office
from uhlp_core.tokens import TokenKey
from uhlp_state.commits import stage_commit

SECRET = b"a-secret-that-was-written-down"


async def test_a_secret_is_found_in_files_commits_redis_and_logs(
    office: Office, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = SECRET.decode()
    (folder / "home" / "logs" / "x.log").write_text(f"connecting with {text} failed")
    await office.call("a0", "core.state.setRuntimeValue", key="k", value=[text] * 99)
    logging.getLogger("uhlp_mcp").debug("calling", extra={"headers": text})
    archive = Archive(office, "alpha")
    staged = stage_commit(archive.repo, archive.start, {"state/notes/a.txt": SECRET}, "leak")
    staged.write(archive.repo)
    assert [path.removeprefix(f"{folder}/home/") for path in leaks.traces([folder], [SECRET])] == [
        "logs/x.log",
        "repos/alpha.git (an object)",
    ]
    assert await leaks.traces_in_redis(office.redis, [SECRET]) == [f"{b'uhlp:runtime:alpha:k'}"]
    assert len(leaks.traces_in_log(caplog.records, [SECRET])) == 1


async def test_an_office_looks_for_its_apps_secrets_credentials_and_own_keys(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UHLP_SECRET_ALPHA__KEY", f"Bearer {SECRET.decode()}")
    await office.post("a0", {}, headers={"Authorization": "Bearer shown-at-the-door-of-a0"})
    TokenKey.of(office.settings.home)
    key = (office.settings.home.secrets / "token-key").read_bytes().strip()
    assert {SECRET, b"shown-at-the-door-of-a0", API_KEY.encode(), key} <= set(office.secrets())
