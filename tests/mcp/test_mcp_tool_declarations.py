"""What a tool may be called, and how its arguments are checked."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from uhlp_mcp.tools import Caller, InvalidArguments, Tool, Toolbox, UnknownTool, by_name, safe_name


async def nothing(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    return {}


def tool(name: str, schema: dict[str, Any] | None = None) -> Tool:
    return Tool(name, "", schema or {"type": "object"}, None, nothing)


async def test_what_the_quick_check_refuses_is_judged_in_full() -> None:
    checked = tool("app.x", {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}})
    await checked.check("shop", {"n": 1.0})
    with pytest.raises(InvalidArguments, match=r"the arguments of app\.x are not valid: \$\.n: 0 is less"):
        await checked.check("shop", {"n": 0})


async def test_arguments_are_judged_in_the_dialect_that_the_schema_names() -> None:
    pair = {"items": [{"type": "string"}], "additionalItems": False}
    named = {"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"pair": pair}}
    checked = tool("community.x.y", named)
    await checked.check("shop", {"pair": ["a"]})
    for wrong in ([1], ["a", "b"]):
        with pytest.raises(InvalidArguments):
            await checked.check("shop", {"pair": wrong})


def test_safe_names_are_cut_with_a_hash_where_they_are_too_long() -> None:
    assert safe_name("core.state.x") == "core__state__x"
    long = "a." * 31 + "a"
    assert safe_name(long) == ("a__" * 31)[:55] + "_a5998454"
    assert len(safe_name(long)) == 64


@pytest.mark.parametrize("name", ["", ".", "a..b", "a.", ".a", "a b", "ä", "a/b", "a" * 65, "a\n"])
def test_names_that_clients_refuse_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a tool"):
        tool(name)


def test_names_and_aliases_that_collide_are_refused() -> None:
    assert list(by_name([tool("app.b"), tool("app.a")])) == ["app.a", "app.b"]
    for other in ("app.a", "app__a"):
        with pytest.raises(ValueError, match=r"are both called app"):
            by_name([tool("app.a"), tool(other)])


def test_arguments_are_not_asked_for_in_headers() -> None:
    region = {"type": "string", "x-mcp-header": "Region", "description": "Where."}
    schema = {"type": "object", "properties": {"region": region, "x-mcp-header": {"type": "string"}}}
    assert tool("app.x", schema).to_json()["inputSchema"] == {
        "type": "object",
        "properties": {
            "region": {"type": "string", "description": "Where."},
            "x-mcp-header": {"type": "string"},
        },
    }


class OfApps:
    """A source with other tools for each app."""

    async def tools(self, caller: Caller) -> Mapping[str, Tool]:
        return by_name([tool(f"app.{caller.app}.greet"), tool("core.shared")])


async def test_sources_add_each_callers_own_tools_within_its_scopes() -> None:
    shared = tool("core.shared")
    toolbox = Toolbox.of([shared, tool("core.other")], [OfApps()])
    everything, own = Caller("shop", "shop"), Caller("shop", "shop", scopes=frozenset({"app.*"}))

    async def names(caller: Caller) -> list[str]:
        return [one.name async for one in toolbox.visible(caller)]

    assert await names(everything) == ["core.other", "core.shared", "app.shop.greet"]
    assert await names(own) == ["app.shop.greet"]
    assert await names(Caller("blog", "blog", scopes=frozenset())) == []
    assert (await toolbox.find(own, "app__shop__greet")).name == "app.shop.greet"
    assert await toolbox.find(everything, "core.shared") is shared
    elsewhere = "tools/list names them all"
    for caller, name, remedy in (
        (own, "core.shared", elsewhere),
        (own, "core.share", elsewhere),
        (everything, "core.share", "did you mean 'core.shared'?"),
        (replace(everything, safe_names=True), "core__share", "did you mean 'core__shared'?"),
        (own, "app.shop", "did you mean 'app.shop.greet'?"),
    ):
        with pytest.raises(UnknownTool, match=rf"^there is no tool named '{name}'; {re.escape(remedy)}$"):
            await toolbox.find(caller, name)
