"""`uhlp secrets`: set from standard input, listed without values, deleted; the value is never shown."""

from pathlib import Path

import pytest

from cli.support import Uhlp
from uhlp_core.secrets import SecretStore

VALUE = "sk-very-secret"


@pytest.fixture(autouse=True)
def key_file(tmp_path: Path, uhlp: Uhlp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UHLP_SECRETS_KEY_FILE", str(tmp_path / "secrets.key"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    uhlp("app", "create", "hello")


def resolved(uhlp: Uhlp, tmp_path: Path, app: str, name: str) -> str:
    settings = uhlp.settings.model_copy(update={"secrets_key_file": tmp_path / "secrets.key"})
    return SecretStore.of(settings).resolve(app, f"secret:{name}")


def test_a_secret_is_set_listed_and_deleted(uhlp: Uhlp, tmp_path: Path) -> None:
    set_it = uhlp("secrets", "set", "openai", "--app", "hello", stdin=f"{VALUE}\n")
    assert set_it.output == "openai is set for hello\n"
    assert uhlp("secrets", "set", "mail", "--all-apps", stdin="x").output == "mail is set for all apps\n"
    assert resolved(uhlp, tmp_path, "hello", "openai") == VALUE
    assert resolved(uhlp, tmp_path, "other", "mail") == "x"

    listed = uhlp.json("secrets", "list")
    assert [(one["app"], one["name"]) for one in listed] == [("*", "mail"), ("hello", "openai")]
    shown = uhlp("secrets", "list", "--app", "hello").output
    assert shown.startswith("hello\topenai\t")
    assert VALUE not in shown

    assert uhlp.json("secrets", "delete", "openai", "--app", "hello") == {"app": "hello", "name": "openai"}
    assert [one["name"] for one in uhlp.json("secrets", "list")] == ["mail"]


def test_for_whom_must_be_said_and_must_exist(uhlp: Uhlp) -> None:
    assert "either --app APP or --all-apps" in uhlp("secrets", "set", "a", stdin="x", code=2).output
    both = uhlp("secrets", "set", "a", "--app", "hello", "--all-apps", stdin="x", code=2)
    assert "either --app APP or --all-apps" in both.output
    assert "there is no app 'helo'" in uhlp("secrets", "set", "a", "--app", "helo", stdin="x", code=1).output
    assert "is not the name" in uhlp("secrets", "set", "A b", "--app", "hello", stdin="x", code=2).output
    assert "is empty" in uhlp("secrets", "set", "a", "--app", "hello", stdin="\n", code=2).output
    assert "there is no secret a for hello" in uhlp("secrets", "delete", "a", "--app", "hello", code=1).output
    assert uhlp.json("secrets", "list") == []
