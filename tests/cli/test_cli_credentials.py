"""Tokens and keys for people's MCP clients."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from argon2 import PasswordHasher

from cli.support import Uhlp
from uhlp_core.tokens import Claims, TokenKey
from uhlp_state.model import SecurityConfig


def test_a_token_opens_the_apps_own_tools_or_those_named(uhlp: Uhlp) -> None:
    uhlp("app", "create", "hello")
    signed = TokenKey.of(uhlp.home).verify
    assert signed(uhlp("token", "hello").output.strip(), "mcp") == Claims(
        "hello", "hello", scopes=frozenset({"app.*"})
    )
    made = uhlp("token", "hello", "--preview", "next", "--tool", "core.state.*", "--hours", "2", "--json")
    found = json.loads(made.stdout)
    assert found["seconds"] == 7200
    of_user = uhlp("token", "hello", "--user", "ada@example.org").output.strip()
    assert signed(of_user, "mcp") == Claims(
        "hello", "hello", user="ada@example.org", scopes=frozenset({"app.*"})
    )
    refused = uhlp("token", "hello", "--user", "a|b\n", code=2).stderr
    assert "'a|b\\n' cannot name a user: use letters, digits" in refused
    assert signed(found["token"], "mcp") == Claims("hello", "hello@next", scopes=frozenset({"core.state.*"}))


def test_clients_that_take_no_dots_get_none(uhlp: Uhlp) -> None:
    uhlp("app", "create", "hello")
    token = uhlp("token", "hello", "--safe-names").output.strip()
    assert TokenKey.of(uhlp.home).verify(token, "mcp").safe_names is True
    assert uhlp.json("key", "--safe-names")["entry"]["permissions"] == ["mcp", "mcp-safe-names"]


def test_a_token_for_no_app_is_refused(uhlp: Uhlp) -> None:
    assert "there is no app 'hello'" in uhlp("token", "hello", code=1).stderr


@pytest.mark.parametrize(
    "scope", ["mcp:*", "mcp", "app", "core.state", "core__state__getRuntimeValue", "st*", ""]
)
def test_a_token_that_can_open_no_tool_is_refused(uhlp: Uhlp, scope: str) -> None:
    uhlp("app", "create", "hello")
    assert f"--tool {scope!r} opens no tool" in uhlp("token", "hello", "--tool", scope, code=2).stderr


def test_every_spelling_of_a_tool_that_may_exist_is_taken(uhlp: Uhlp) -> None:
    uhlp("app", "create", "hello")
    scopes = (
        "*",
        "co*",
        "core.*",
        "app.add_note",
        "core.state.getRuntimeValue",
        "community.sqlite.*",
        "register",
    )
    made = uhlp("token", "hello", *(part for scope in scopes for part in ("--tool", scope)))
    assert TokenKey.of(uhlp.home).verify(made.stdout.strip(), "mcp").scopes == set(scopes)
    assert made.stderr == ""


def test_a_token_for_a_preview_that_is_not_there_yet_says_so(uhlp: Uhlp) -> None:
    uhlp("app", "create", "hello")
    made = uhlp("token", "hello", "--preview", "nope")
    assert made.stderr == "hello has no preview 'nope' yet: the token opens nothing until it is pushed\n"
    assert TokenKey.of(uhlp.home).verify(made.stdout.strip(), "mcp").deployment == "hello@nope"


def test_a_key_fits_the_entry_that_is_printed_with_it(uhlp: Uhlp) -> None:
    options = ("--description", "Ada's", "--user", "ada", "--permission", "mcp:core.*")
    made = uhlp.json("key", *options)
    (definition,) = SecurityConfig.model_validate({"apiKeys": [made["entry"]]}).api_keys
    assert PasswordHasher().verify(definition.key_hash, made["key"])
    assert (definition.description, definition.permissions) == ("Ada's", ("mcp:core.*",))
    assert definition.holder == "ada"
    text = uhlp("key").output
    _, _, document = text.partition(
        "In state/security_config.yaml (if it has `apiKeys:` already, add only the lines below that):\n\n"
    )
    entry = yaml.safe_load(document)
    assert document.startswith("apiKeys:\n- keyHash: ")
    second = uhlp("key").output.partition("apiKeys:\n")[2]
    assert len(yaml.safe_load(document + second)["apiKeys"]) == 2
    assert entry["apiKeys"][0]["permissions"] == ["mcp"]
    assert "expiresAt" not in entry["apiKeys"][0]


def test_a_key_may_end_by_itself(uhlp: Uhlp) -> None:
    before = datetime.now(UTC)
    entry = json.loads(uhlp("key", "--days", "30", "--json").output)["entry"]
    (definition,) = SecurityConfig.model_validate({"apiKeys": [entry]}).api_keys
    left = definition.expires_at - before
    assert timedelta(days=30, seconds=-1) < left < timedelta(days=30, minutes=5)
    assert definition.counts(before)
    assert not definition.counts(definition.expires_at)
