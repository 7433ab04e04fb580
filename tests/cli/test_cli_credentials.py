"""Tokens and keys for people's MCP clients."""

import json
from datetime import UTC, datetime, timedelta

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
    found = json.loads(made.output)
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


def test_a_key_fits_the_entry_that_is_printed_with_it(uhlp: Uhlp) -> None:
    options = ("--description", "Ada's", "--user", "ada", "--permission", "mcp:core.*")
    made = uhlp.json("key", *options)
    (definition,) = SecurityConfig.model_validate({"apiKeys": [made["entry"]]}).api_keys
    assert PasswordHasher().verify(definition.key_hash, made["key"])
    assert (definition.description, definition.permissions) == ("Ada's", ("mcp:core.*",))
    assert definition.holder == "ada"
    text = uhlp("key").output
    entry = yaml.safe_load(text.partition("security_config.yaml:\n")[2])
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
