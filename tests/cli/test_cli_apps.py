"""`uhlp app`: creating, listing, deleting, suspending and resuming, with real repos."""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from cli.support import Uhlp
from uhlp_cli import deleting, new_app, platform_repo
from uhlp_core import keys
from uhlp_core.errors import Conflict
from uhlp_core.secrets import local_secrets
from uhlp_core.settings import Settings
from uhlp_state.platform import PLATFORM_FILE


def test_a_created_app_can_be_cloned_and_is_valid(uhlp, tmp_path: Path) -> None:
    document = uhlp.json("app", "create", "shop")
    assert document == {
        "app": "shop",
        "commit": uhlp.git("shop", "rev-parse", "main"),
        "path": str(uhlp.home.repo("shop")),
        "gitUrl": "http://localhost:8081/git/shop.git",
        "url": "http://shop.localhost:8080/",
        "live": None,
        "message": "It goes live as soon as the platform runs: `uhlp up`.",
    }
    subprocess.run(
        ["git", "clone", "--quiet", document["path"], str(tmp_path / "shop")], check=True, capture_output=True
    )
    assert uhlp.json("validate", str(tmp_path / "shop")) == {"valid": True, "app": "shop", "problems": []}
    assert uhlp.git("shop", "log", "--format=%an %s") == "Ada Begin shop from the template hello"


def test_creating_tells_how_to_go_on(uhlp) -> None:
    text = uhlp("app", "create", "shop").stdout
    assert f"git clone {uhlp.home.repo('shop')}" in text
    assert "git clone http://localhost:8081/git/shop.git" in text
    assert "http://shop.localhost:8080/" in text


@pytest.fixture
def opened(uhlp: Uhlp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings with a key of secrets, that of the commands too."""
    monkeypatch.setenv("UHLP_SECRETS_KEY_FILE", str(tmp_path / "secrets.key"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return uhlp.settings.model_copy(update={"secrets_key_file": tmp_path / "secrets.key"})


def note_running(uhlp: Any) -> None:
    """As the supervisor does when it has started everything."""
    uhlp.home.create()
    state = {
        "pid": 1,
        "gateway": "http://g",
        "control": "http://c",
        "mcp": "http://m",
        "domain": "localhost",
        "port": 80,
        "daemons": {},
    }
    (uhlp.home.run / "up.json").write_text(json.dumps(state))


@pytest.mark.usefixtures("store")
def test_creating_tells_that_it_is_not_live_in_time(uhlp) -> None:
    note_running(uhlp)
    document = uhlp.json("app", "create", "shop", "--timeout", "0", code=1)
    assert document["commit"] == uhlp.git("shop", "rev-parse", "main")
    assert (document["live"], document["message"]) == (False, "waiting for registry")
    text = uhlp("app", "create", "other", "--timeout", "0", code=1).stdout
    assert text.endswith(
        "\n✘ not live after 0 s: waiting for registry\n  the app is created; see `uhlp status other`\n"
    )


@pytest.mark.usefixtures("store")
def test_creating_need_not_wait(uhlp) -> None:
    note_running(uhlp)
    assert uhlp.json("app", "create", "shop", "--no-wait")["live"] is None


def test_an_app_is_created_also_where_the_platform_has_been_killed(uhlp) -> None:
    note_running(uhlp)
    document = uhlp.json("app", "create", "shop")
    assert document["commit"] == uhlp.git("shop", "rev-parse", "main")
    assert document["live"] is None
    assert document["message"].startswith("Whether it is live is not known: Redis cannot be reached")


def test_a_name_is_taken_once(uhlp) -> None:
    first = uhlp.json("app", "create", "shop")["commit"]
    assert uhlp.json("app", "create", "shop", code=1)["error"]["code"] == "APP_EXISTS"
    assert uhlp.git("shop", "rev-parse", "main") == first


@pytest.mark.parametrize("name", ["Shop", "-shop", "a--b", "platform", "../x", "a" * 40, "x.git", ""])
def test_a_name_that_no_app_may_have_makes_nothing(uhlp, name: str) -> None:
    uhlp("app", "create", "--", name, code=2) if name.startswith("-") else uhlp("app", "create", name, code=2)
    assert not uhlp.home.repos.exists() or list(uhlp.home.repos.iterdir()) == []


def test_an_unknown_template_names_the_known_ones(uhlp) -> None:
    result = uhlp("app", "create", "shop", "--template", "helo", code=2)
    assert "hello" in result.stderr
    assert not uhlp.home.repo("shop").exists()


def test_a_first_commit_that_fails_leaves_no_repo(uhlp, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(new_app, "commit_files", fail)
    with pytest.raises(OSError, match="No space left"):
        new_app.create_app(uhlp.settings, "shop", {"a": b""}, "Begin")
    assert not uhlp.home.repo("shop").exists()


def test_the_platform_bounds_the_number_of_apps(uhlp) -> None:
    files = {PLATFORM_FILE: b"quotas:\n  maxApps: 1\n"}
    uhlp.home.create()
    new_app.create_with_commit(uhlp.settings, "platform", files, "One app is enough")
    uhlp("app", "create", "first")
    assert uhlp.json("app", "create", "second", code=1)["error"]["code"] == "QUOTA_EXCEEDED"


def test_of_many_that_create_the_same_app_one_wins(uhlp) -> None:
    def create(number: int) -> str | None:
        try:
            return new_app.create_app(uhlp.settings, "shop", {"who": str(number).encode()}, f"By {number}")
        except Conflict:
            return None

    with ThreadPoolExecutor(4) as pool:
        commits = [commit for commit in pool.map(create, range(4)) if commit]
    assert commits == [uhlp.git("shop", "rev-parse", "main")]


def test_the_list_shows_heads_previews_and_suspensions(uhlp, hello) -> None:
    uhlp("app", "create", "shop")
    hello.git("checkout", "--quiet", "-b", "preview/dark")
    hello.commit("Try it", page="dark")
    uhlp("app", "suspend", "shop", "--reason", "unpaid")
    assert uhlp.json("app", "list")["apps"] == [
        {
            "app": "hello",
            "url": "http://hello.localhost:8080/",
            "path": str(uhlp.home.repo("hello")),
            "commit": uhlp.git("hello", "rev-parse", "main"),
            "subject": "Begin hello from the template hello",
            "previews": ["dark"],
            "suspended": False,
            "reason": None,
        },
        {
            "app": "shop",
            "url": "http://shop.localhost:8080/",
            "path": str(uhlp.home.repo("shop")),
            "commit": uhlp.git("shop", "rev-parse", "main"),
            "subject": "Begin shop from the template hello",
            "previews": [],
            "suspended": True,
            "reason": "unpaid",
        },
    ]


def test_deleting_without_a_terminal_needs_a_yes(uhlp) -> None:
    uhlp("app", "create", "shop")
    result = uhlp("app", "delete", "shop", code=2)
    assert "--yes" in result.stderr
    assert uhlp.home.repo("shop").exists()


def test_a_deleted_app_can_be_brought_back_as_told(uhlp) -> None:
    commit = uhlp.json("app", "create", "shop")["commit"]
    text = uhlp("app", "delete", "shop", "--yes").stdout
    assert uhlp.json("app", "list") == {"apps": []}
    subprocess.run(text.splitlines()[-1].split(), check=True)
    assert [app["commit"] for app in uhlp.json("app", "list")["apps"]] == [commit]


def test_deleting_twice_keeps_both_in_the_trash(uhlp) -> None:
    for _ in range(2):
        uhlp("app", "create", "shop")
        uhlp("app", "delete", "shop", "--yes")
    assert len(list(uhlp.home.trash.glob("shop-*.git"))) == 2


def test_purging_without_redis_changes_nothing(uhlp) -> None:
    uhlp("app", "create", "shop")
    assert (
        uhlp.json("app", "delete", "shop", "--yes", "--purge", code=3)["error"]["code"] == "REDIS_UNREACHABLE"
    )
    assert uhlp.home.repo("shop").exists()


def left_by(uhlp: Uhlp, store: redis.Redis, app: str) -> tuple[set[Path], set[str]]:
    """What an app leaves on the disk and in Redis: made here, for nothing runs."""
    home = uhlp.home
    folders = {home.trees / app, home.app_log(app).parent}
    values = {keys.events(app), keys.llm_held(app), keys.llm_minute(app)}
    values |= {keys.llm_usage(app, "2026-01-31"), keys.llm_settled(app, "attempt")}
    for deployment in (app, f"{app}@dark"):
        folders |= {home.data / deployment, home.mcp_servers / deployment}
        values |= {keys.runtime(deployment, "cart:1"), keys.runtime_use(deployment)}
        values |= {keys.runtime_recounted(deployment), keys.mcp_registration(deployment, "notes")}
        values |= {keys.llm_cache(deployment, "question"), keys.llm_cached(deployment)}
    for folder in folders:
        (folder / "closed").mkdir(parents=True)
        (folder / "closed" / "notes.db").write_text("private")
        (folder / "closed").chmod(0)
    for key in values:
        store.set(key, "private")
    return folders, values


def test_purging_removes_everything_of_this_app_and_nothing_of_another(uhlp, store, opened: Settings) -> None:
    uhlp("app", "create", "shop")
    uhlp("app", "delete", "shop", "--yes")
    left = {}
    for app in ("shop", "shop2", "shop-20260131"):
        uhlp("app", "create", app)
        left[app] = left_by(uhlp, store, app)
        local_secrets(opened).set(app, "openai", "private")
    uhlp("app", "delete", "shop-20260131", "--yes")
    assert uhlp.json("app", "delete", "shop", "--yes", "--purge") == {
        "app": "shop",
        "purged": True,
        "trash": None,
    }
    assert not uhlp.home.repo("shop").exists()
    assert len(list(uhlp.home.trash.iterdir())) == 1
    folders, _ = left.pop("shop")
    assert not [folder for folder in folders if folder.exists()]
    assert all(folder.exists() for folders, _ in left.values() for folder in folders)
    assert {key.decode() for key in store.keys("*")} == set().union(*(values for _, values in left.values()))
    assert {secret.app for secret in local_secrets(opened).list()} == {"shop2", "shop-20260131"}
    assert uhlp.json("app", "delete", "shop", "--yes", "--purge", code=1)["error"]["code"] == "APP_NOT_FOUND"


def test_a_deleted_app_can_be_purged_later(uhlp, store) -> None:
    uhlp("app", "create", "shop")
    folders, _ = left_by(uhlp, store, "shop")
    text = uhlp("app", "delete", "shop", "--yes").stdout
    assert "Its files, runtime state, logs and secrets stay" in text
    assert all(folder.exists() for folder in folders)
    uhlp("app", "delete", "shop", "--yes", "--purge")
    assert not [folder for folder in folders if folder.exists()]
    assert store.keys("*") == []
    assert list(uhlp.home.trash.iterdir()) == []


def test_a_link_in_place_of_an_apps_files_is_told_and_nothing_behind_it_removed(
    uhlp, store, tmp_path: Path
) -> None:
    uhlp("app", "create", "shop")
    (tmp_path / "note").write_text("another's")
    uhlp.home.data.mkdir()
    link = uhlp.home.data / "shop"
    link.symlink_to(tmp_path)
    told = uhlp.json("app", "delete", "shop", "--yes", "--purge", code=1)["error"]
    assert (told["code"], str(link) in told["message"]) == ("NOT_REMOVED", True)
    assert (tmp_path / "note").exists()
    link.unlink()
    uhlp("app", "delete", "shop", "--yes", "--purge")
    assert list(uhlp.home.trash.iterdir()) == []


def test_nothing_is_purged_before_the_apps_sandboxes_have_ended(
    uhlp, store, monkeypatch: pytest.MonkeyPatch
) -> None:
    uhlp("app", "create", "shop")
    folders, values = left_by(uhlp, store, "shop")
    store.zadd(keys.GATEWAYS, {"gateway": time.time() + 600})
    store.hset(keys.instances("shop@dark"), "instance", "{}")
    monkeypatch.setattr(deleting, "GONE_SECONDS", 0.0)
    refused = uhlp.json("app", "delete", "shop", "--yes", "--purge", code=3)["error"]
    assert refused["code"] == "STILL_RUNNING"
    assert not uhlp.home.repo("shop").exists()
    assert all(folder.exists() for folder in folders)
    assert {keys.GATEWAYS, keys.instances("shop@dark")} | values == {key.decode() for key in store.keys("*")}

    monkeypatch.setattr(deleting, "GONE_SECONDS", 60.0)
    monkeypatch.setattr(deleting, "SETTLE_SECONDS", 0.0)
    with ThreadPoolExecutor(1) as pool:
        purging = pool.submit(uhlp, "app", "delete", "shop", "--yes", "--purge")
        store.delete(keys.instances("shop@dark"))
        purging.result(60)
    assert not [folder for folder in folders if folder.exists()]
    assert [key.decode() for key in store.keys("*")] == [keys.GATEWAYS]


def test_suspending_and_resuming_are_commits_that_keep_comments(uhlp) -> None:
    uhlp("app", "create", "shop")
    repo = platform_repo.ensure(uhlp.settings)
    content = (
        "# Ours.\nquotas:\n  maxApps: 7 # enough\nsuspendedApps:\n  # Waits for its owner.\n  - appId: old\n"
    )
    head = uhlp.git("platform", "rev-parse", "main")
    platform_repo.commit_files(repo, head, {PLATFORM_FILE: content.encode()}, "Set up")

    suspended = uhlp.json("app", "suspend", "shop", "--reason", "unpaid")
    text = uhlp.git("platform", "show", f"main:{PLATFORM_FILE}")
    assert text.startswith(content.rstrip("\n"))
    assert "appId: shop\n    reason: unpaid\n" in text
    assert suspended == {
        "app": "shop",
        "suspended": True,
        "commit": uhlp.git("platform", "rev-parse", "main"),
    }
    assert uhlp.git("platform", "log", "-1", "--format=%an %s") == "Ada Suspend shop: unpaid"
    assert platform_repo.suspended(uhlp.settings) == {"old": "", "shop": "unpaid"}

    uhlp("app", "resume", "shop")
    assert uhlp.git("platform", "show", f"main:{PLATFORM_FILE}") == content.rstrip("\n")
    assert platform_repo.suspended(uhlp.settings) == {"old": ""}


def test_suspending_twice_and_resuming_what_runs_are_refused(uhlp) -> None:
    uhlp("app", "create", "shop")
    uhlp("app", "suspend", "shop")
    before = uhlp.git("platform", "rev-parse", "main")
    assert "is suspended already" in uhlp("app", "suspend", "shop", code=1).stderr
    assert uhlp.git("platform", "rev-parse", "main") == before
    uhlp("app", "resume", "shop")
    assert "is not suspended" in uhlp("app", "resume", "shop", code=1).stderr


def test_the_platform_repo_is_made_once_and_is_valid(uhlp) -> None:
    with ThreadPoolExecutor(4) as pool:
        repos = set(pool.map(lambda _: platform_repo.ensure(uhlp.settings), range(4)))
    assert repos == {uhlp.home.repo("platform")}
    assert uhlp.git("platform", "rev-list", "--count", "main") == "1"
    assert platform_repo.suspended(uhlp.settings) == {}


def test_no_suspension_is_lost_among_many_at_once(uhlp) -> None:
    platform_repo.ensure(uhlp.settings)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda app: platform_repo.suspend(uhlp.settings, app, ""), ["a", "b", "c", "d"]))
    assert set(platform_repo.suspended(uhlp.settings)) == {"a", "b", "c", "d"}
