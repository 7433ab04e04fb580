"""The core tools, called as a sandbox calls them; and that no argument reaches another app."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from support.mcp_office import Office
from uhlp_core import keys
from uhlp_core.tokens import Claims, TokenKey


async def test_runtime_values_are_set_read_counted_and_deleted(office: Office) -> None:
    assert await office.call("a0", "core.state.getRuntimeValue", key="k") == {"found": False}
    value = {"list": [1, None, "ü"]}
    assert await office.call("a0", "core.state.setRuntimeValue", key="k", value=value) == {"success": True}
    assert await office.call("a0", "core.state.getRuntimeValue", key="k") == {"found": True, "value": value}
    assert await office.call("a0", "core.state.deleteRuntimeValue", key="k") == {"success": True}
    assert await office.call("a0", "core.state.deleteRuntimeValue", key="k") == {"success": False}
    assert await office.call("a0", "core.state.incrementRuntimeValue", key="n") == {"value": 1}
    assert await office.call("a0", "core.state.incrementRuntimeValue", key="n", amount=-5) == {"value": -4}


async def test_a_value_with_a_ttl_expires(office: Office) -> None:
    await office.call("a0", "core.state.setRuntimeValue", key="k", value=1, ttlSeconds=60)
    assert 0 < await office.redis.ttl(keys.runtime("alpha", "k")) <= 60


async def test_a_preview_has_values_of_its_own(office: Office) -> None:
    await office.publish("alpha@next")
    await office.add("alpha@next", "p0")
    await office.call("a0", "core.state.setRuntimeValue", key="k", value="production")
    assert await office.call("p0", "core.state.getRuntimeValue", key="k") == {"found": False}


async def test_configuration_of_the_app_and_of_a_component(office: Office) -> None:
    tool = "core.framework.getConfigValue"
    found = await office.call("a0", tool, key="greeting")
    assert found == {"key": "greeting", "found": True, "value": "hello"}
    found = await office.call("a0", tool, key="greeting", componentId="hello")
    assert found == {"key": "greeting", "found": True, "value": "hello from hello"}
    assert await office.call("a0", tool, key="absent") == {"key": "absent", "found": False}
    assert (await office.refused("a0", tool, key="greeting", componentId="x")).startswith("NOT_FOUND: ")


async def test_a_configuration_value_within_others_is_named_by_dots(office: Office) -> None:
    mail = {"sender": {"name": "Ada"}, "sender.name": "as it is written", "empty": None}
    await office.publish("alpha", commit="e" * 40, configuration={"mail": mail})

    async def value(key: str) -> Any:
        found = await office.call("a0", "core.framework.getConfigValue", key=key)
        assert found.pop("key") == key
        assert found.pop("found") is ("value" in found)
        return found.get("value", "absent")

    assert await value("mail.sender") == {"name": "Ada"}
    assert await value("mail.sender.name") == "as it is written"
    assert await value("mail.empty") is None
    for absent in ("mail.sender.name.first", "mail.", ".mail", "mail.empty.x", "mail.nothing"):
        assert await value(absent) == "absent"


async def test_configuration_follows_the_revision_served(office: Office) -> None:
    await office.publish("alpha", commit="e" * 40, configuration={"greeting": "new"})
    found = await office.call("a0", "core.framework.getConfigValue", key="greeting")
    assert found == {"key": "greeting", "found": True, "value": "new"}


async def test_a_log_message_becomes_one_line_of_the_app_s_log(office: Office) -> None:
    message = 'two\nlines {"app": "beta"}'
    await office.call(
        "a0", "core.framework.logFrameworkMessage", level="warning", message=message, requestId="r-1"
    )
    (line,) = office.settings.home.app_log("alpha").read_bytes().splitlines()
    found = orjson.loads(line)
    assert found.pop("ts") > 0
    assert found == {
        "level": "warning",
        "stream": "framework",
        "app": "alpha",
        "deployment": "alpha",
        "instance": "a0",
        "component": None,
        "requestId": "r-1",
        "message": message,
    }
    assert not office.settings.home.app_log("beta").exists()


async def test_a_log_message_is_the_callers_own(office: Office) -> None:
    token = TokenKey.of(office.settings.home).sign(Claims("alpha", "alpha", "python", "a0", "hello"), 60)
    arguments = {"level": "info", "message": "hi", "componentId": "another"}
    status, _ = await office.post(
        "a0",
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "core.framework.logFrameworkMessage", "arguments": arguments},
        },
        headers={"Authorization": f"Bearer {token}", "X-Request-ID": "r-2"},
    )
    assert status == 200
    line = orjson.loads(office.settings.home.app_log("alpha").read_bytes())
    assert (line["component"], line["requestId"]) == ("hello", "r-2")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("core.state.getRuntimeValue", {}),
        ("core.state.getRuntimeValue", {"key": 5}),
        ("core.state.getRuntimeValue", {"key": ""}),
        ("core.state.setRuntimeValue", {"key": "k"}),
        ("core.state.setRuntimeValue", {"key": "k", "value": 1, "ttlSeconds": 0}),
        ("core.state.incrementRuntimeValue", {"key": "k", "amount": 1.5}),
        ("core.framework.logFrameworkMessage", {"level": "loud", "message": "x"}),
        ("core.framework.logFrameworkMessage", {"level": "info", "message": "x" * 20_000}),
        ("core.framework.logFrameworkMessage", {"level": "info", "message": "x", "requestId": "a\nb"}),
    ],
)
async def test_arguments_are_checked(office: Office, tool: str, arguments: dict[str, Any]) -> None:
    assert (await office.refused("a0", tool, **arguments)).startswith("INVALID_ARGUMENTS: ")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("core.framework.logFrameworkMessage", '{"level": "info", "message": "x", "details": {"a": NESTED}}'),
        ("core.state.setRuntimeValue", '{"key": "k", "value": NESTED}'),
    ],
)
async def test_arguments_nested_deeper_than_is_written_are_refused(
    office: Office, tool: str, arguments: str
) -> None:
    given = arguments.replace("NESTED", "[" * 300 + "]" * 300)
    call = f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {{"name": "{tool}", "arguments":'
    _, answer = await office.post("a0", f"{call} {given}}}}}".encode())
    assert answer["result"]["content"][0]["text"].startswith("INVALID_")


async def test_adding_to_what_is_no_number_is_told(office: Office) -> None:
    await office.call("a0", "core.state.setRuntimeValue", key="k", value="text")
    assert (await office.refused("a0", "core.state.incrementRuntimeValue", key="k")).startswith(
        "NOT_A_NUMBER: "
    )


@pytest.mark.parametrize("name", ["appId", "app", "deployment", "instance", "caller"])
async def test_naming_another_app_in_the_arguments_is_refused(office: Office, name: str) -> None:
    await office.call("b0", "core.state.setRuntimeValue", key="secret", value="of beta")
    arguments = {"key": "secret", name: "beta"}
    assert (await office.refused("a0", "core.state.getRuntimeValue", **arguments)).startswith(
        "INVALID_ARGUMENTS: "
    )


@pytest.mark.parametrize(
    "key", ["beta:secret", "../beta:secret", "uhlp:runtime:beta:secret", ":beta:secret", "*", "@next:k"]
)
async def test_no_key_reaches_another_app_s_values(office: Office, key: str) -> None:
    await office.call("b0", "core.state.setRuntimeValue", key="secret", value="of beta")
    assert await office.call("a0", "core.state.getRuntimeValue", key=key) == {"found": False}
    await office.call("a0", "core.state.setRuntimeValue", key=key, value="of alpha")
    found = await office.call("b0", "core.state.getRuntimeValue", key="secret")
    assert found == {"found": True, "value": "of beta"}


@pytest.mark.parametrize("path", ["../../beta.git/state/x", "/etc/passwd", "..", "a/../../x", ".git/config"])
async def test_no_path_leaves_the_app_s_state(office: Office, path: str) -> None:
    text = await office.refused("a0", "core.state.getDefinitionFileContent", filePath=path)
    assert text.split(":")[0] in ("INVALID_INPUT", "NOT_FOUND")


async def test_params_beside_the_arguments_change_nothing(office: Office) -> None:
    await office.call("b0", "core.state.setRuntimeValue", key="secret", value="of beta")
    params = {
        "name": "core.state.getRuntimeValue",
        "arguments": {"key": "secret"},
        "_meta": {"appId": "beta", "deployment": "beta"},
        "appId": "beta",
    }
    answer = await office.rpc("a0", "tools/call", params)
    assert answer["result"]["structuredContent"] == {"found": False}


async def listed(office: Office) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = (await office.rpc("a0", "tools/list"))["result"]["tools"]
    return tools


async def test_the_manual_has_each_tool_with_its_arguments_and_results(office: Office) -> None:
    def keys_of(schema: dict[str, Any]) -> str:
        required = schema.get("required", ())
        return ", ".join(f"`{key}`" if key in required else f"`{key}?`" for key in schema["properties"])

    manual = (Path(__file__).parents[2] / "docs/core-tools.md").read_text().splitlines()
    rows = {line.rpartition(" | ")[0] for line in manual if line.startswith("| `core.")}
    assert rows == {
        f"| `{tool['name']}` | {keys_of(tool['inputSchema'])} | {keys_of(tool['outputSchema'])}"
        for tool in await listed(office)
    }


async def test_clients_are_told_which_tools_overwrite_or_reach_out(office: Office) -> None:
    tools = {tool["name"].removeprefix("core."): tool["annotations"] for tool in await listed(office)}
    assert {name for name, hints in tools.items() if hints["destructiveHint"]} == {
        "component.invoke",
        "filesystem.deleteFile",
        "filesystem.writeFile",
        "state.deleteRuntimeValue",
        "state.setRuntimeValue",
    }
    assert {name for name, hints in tools.items() if hints["openWorldHint"]} == {
        "component.invoke",
        "linux.executeCommand",
        "llm.generate",
    }
