"""Tokens and keys for people's MCP clients."""

import json

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
    assert signed(found["token"], "mcp") == Claims("hello", "hello@next", scopes=frozenset({"core.state.*"}))


def test_a_token_for_no_app_is_refused(uhlp: Uhlp) -> None:
    assert "there is no app 'hello'" in uhlp("token", "hello", code=1).stderr


def test_a_key_fits_the_entry_that_is_printed_with_it(uhlp: Uhlp) -> None:
    made = json.loads(uhlp("key", "--description", "Ada's", "--permission", "mcp:core.*", "--json").output)
    (definition,) = SecurityConfig.model_validate({"apiKeys": [made["entry"]]}).api_keys
    assert PasswordHasher().verify(definition.key_hash, made["key"])
    assert (definition.description, definition.permissions) == ("Ada's", ("mcp:core.*",))
    text = uhlp("key").output
    entry = yaml.safe_load(text.partition("security_config.yaml:\n")[2])
    assert entry["apiKeys"][0]["permissions"] == ["mcp"]
