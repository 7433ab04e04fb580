"""MCP servers of others in an app's definition: what the validator lets through, and what not."""

import json

import pytest

from state.apps import DEFINITION, app
from uhlp_state.model import AllowedMcpServer
from uhlp_state.platform import PlatformDefinition
from uhlp_state.snapshot import AppSnapshot
from uhlp_state.validate import Validation, validate

PLATFORM = PlatformDefinition(
    allowed_mcp_servers={
        "time": AllowedMcpServer(command=("/usr/bin/time",), env=("API_TOKEN", "DB_PASSWORD", "MODE"))
    }
)
PINS = "state/mcp_pins/clock.json"
TOKEN = "ghp_" + "a1B2" * 9
LINES = DEFINITION.count("\n")


def check(servers: str, **files: str) -> Validation:
    definition = f"{DEFINITION}mcpServers: {servers}\n"
    return validate(app({"state/app_definition.yaml": definition, **files}), "demo", platform=PLATFORM)


def pins(*names: str, **more: object) -> str:
    return json.dumps({"tools": [{"name": name, **more} for name in names]})


def test_what_is_served_has_the_programs_and_the_approved_tools_that_are_offered() -> None:
    servers = "{clock: {command: time, args: [--utc], env: {API_TOKEN: 'secret:clock'}, tools: [get_*]}}"
    snapshot = check(servers, **{PINS: pins("get_time", "set_time")}).snapshot
    assert snapshot is not None
    assert snapshot.mcp_programs == PLATFORM.allowed_mcp_servers
    assert [tool.name for tool in snapshot.mcp_pins["clock"]] == ["get_time"]
    assert AppSnapshot.from_json(json.loads(json.dumps(snapshot.to_json()))) == snapshot


@pytest.mark.parametrize(
    ("filters", "offered"),
    [
        ("", ["get_time", "set_time", "stop"]),
        ("tools: [get_*, stop]", ["get_time", "stop"]),
        ("exceptTools: ['set_*', stop]", ["get_time"]),
        ("tools: ['*_time'], exceptTools: [set_time]", ["get_time"]),
        ("tools: [stop], exceptTools: ['*']", []),
    ],
)
def test_tools_are_offered_by_name(filters: str, offered: list[str]) -> None:
    files = {PINS: pins("get_time", "set_time", "stop")}
    snapshot = check(f"{{clock: {{command: time, {filters}}}}}", **files).snapshot
    assert snapshot is not None
    assert [tool.name for tool in snapshot.mcp_pins["clock"]] == offered


@pytest.mark.parametrize(
    ("servers", "code"),
    [
        ("{clock: {}}", "BAD_VALUE"),
        ("{clock: {command: time, url: 'https://a.example/'}}", "BAD_VALUE"),
        ("{clock: {url: 'https://a.example/', env: {A: b}}}", "BAD_VALUE"),
        ("{clock: {url: 'https://user@a.example/'}}", "BAD_VALUE"),
        ("{clock: {url: 'file:///etc/passwd'}}", "BAD_VALUE"),
        ("{clock: {command: tme}}", "MCP_SERVER_NOT_ALLOWED"),
        ("{clock: {command: /usr/bin/time}}", "MCP_SERVER_NOT_ALLOWED"),
        ("{clock: {command: time, env: {LD_PRELOAD: /dev/shm/x.so}}}", "MCP_VARIABLE_NOT_ALLOWED"),
        ("{clock: {command: time, env: {NODE_OPTIONS: '--import data:,x'}}}", "MCP_VARIABLE_NOT_ALLOWED"),
        ("{clock: {command: time, env: {db_password: 'secret:db'}}}", "MCP_VARIABLE_NOT_ALLOWED"),
        ("{clock: {command: time, env: {PATH: .}}}", "MCP_VARIABLE_NOT_ALLOWED"),
        ("{clock: {url: 'https://a.example/', headers: {Authorization: Bearer x}}}", "SECRET_IN_CONFIG"),
        ("{clock: {command: time, env: {DB_PASSWORD: x}}}", "SECRET_IN_CONFIG"),
        ("{clock: {command: time, args: ['postgres://ada:pw@db/x']}}", "SECRET_IN_CONFIG"),
        (f"{{clock: {{command: time, args: ['--api-key={TOKEN}']}}}}", "SECRET_IN_CONFIG"),
        (f"{{clock: {{command: time, args: [--token, {TOKEN}]}}}}", "SECRET_IN_CONFIG"),
        ("{clock: {command: time, args: [--db-password, hunter2]}}", "SECRET_IN_CONFIG"),
        ("{clock: {command: time, args: [-apiKey, hunter2]}}", "SECRET_IN_CONFIG"),
        ("{clock: {command: time, args: ['--password=hunter2']}}", "SECRET_IN_CONFIG"),
        # A reference counts as a whole value only: this would be sent as it stands here.
        ("{clock: {command: time, args: ['--password=secret:db']}}", "SECRET_IN_CONFIG"),
        ("{clock: {command: time, args: ['password=hunter2 host=db']}}", "SECRET_IN_CONFIG"),
        ("{clock: {command: time, args: ['host=db password = hunter2']}}", "SECRET_IN_CONFIG"),
        ('{clock: {command: time, args: [\'{"password": "hunter2"}\']}}', "SECRET_IN_CONFIG"),
        ("{clock: {command: time, args: [--header, 'X-Api-Key: hunter2']}}", "SECRET_IN_CONFIG"),
        (
            "{clock: {command: time, args: ['--at=https://x.example/?access_token=hunter2']}}",
            "SECRET_IN_CONFIG",
        ),
        (f"{{clock: {{command: time, env: {{MODE: {TOKEN}}}}}}}", "SECRET_IN_CONFIG"),
        (f"{{clock: {{url: 'https://a.example/', headers: {{X-Gitlab: {TOKEN}}}}}}}", "SECRET_IN_CONFIG"),
        (f"{{clock: {{url: 'https://a.example/?q={TOKEN}'}}}}", "SECRET_IN_CONFIG"),
        ("{clock: {url: 'https://a.example/?a=b&api_key=hunter2'}}", "SECRET_IN_CONFIG"),
        ("{clock: {command: time, env: {DB_PASSWORD: 'secret:../x'}}}", "BAD_VALUE"),
        ("{clock: {register: true, headers: {Authorization: 'secret:clock'}}}", "BAD_VALUE"),
        ("{clock: {register: true, env: {DB_PASSWORD: 'secret:db'}}}", "BAD_VALUE"),
        ("{clock: {register: true, args: ['secret:db']}}", "BAD_VALUE"),
        ("{../clock: {command: time}}", "BAD_VALUE"),
    ],
)
def test_mistakes(servers: str, code: str) -> None:
    problems = check(servers).problems
    assert [problem.code for problem in problems] == [code]
    told = problems[0].format()
    assert not [secret for secret in ("pw@", "Bearer x", TOKEN, "hunter2") if secret in told]


@pytest.mark.parametrize(
    "server",
    [
        "command: time, args: [--token, 'secret:clock', --password, 'secret:db', plain]",
        "command: time, args: [--token-file, /run/token, --max-tokens, '100', --no-password, plain]",
        "command: time, args: [--password, --verbose, --token, '', '--password=']",
        "command: time, args: [--author=ada, --author, ada, --tokenizer=words]",
        "command: time, args: ['https://a.example/tokens?next=2', 'host=db user=ada', '--at=12:30']",
        "command: time, env: {MODE: 'secretly, with a token of thanks'}",
        "register: true, headers: {X-Mode: fast}",
        "url: 'https://a.example/mcp?tokens=2', headers: {X-Mode: fast, Cookie: 'secret:cookie'}",
    ],
)
def test_what_only_resembles_a_credential_is_let_through(server: str) -> None:
    assert check(f"{{clock: {{{server}}}}}").problems == ()


def test_a_variable_that_apps_may_not_set_is_told_with_its_place_and_the_remedy() -> None:
    (problem,) = check("\n  clock:\n    command: time\n    env: {NODE_OPTIONS: --import=x}").problems
    assert (problem.file, problem.line) == ("state/app_definition.yaml", LINES + 4)
    assert problem.message == "the platform lets no app set 'NODE_OPTIONS' for the MCP server 'time'"
    assert "allowedMcpServers.time.env in the platform's state/platform.yaml" in problem.format()
    (problem,) = check("{clock: {command: clock, env: {TZ: UTC}}}").problems
    assert problem.code == "MCP_VARIABLE_NOT_ALLOWED"


def test_a_header_in_the_clear_is_told_what_its_secret_has_to_be() -> None:
    (problem,) = check("{crm: {url: 'https://a.example/', headers: {Authorization: Bearer x}}}").problems
    assert problem.remedy.endswith("all that is to be sent, such as `Bearer <token>` for Authorization")


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({PINS: "{"}, "YAML_SYNTAX"),
        ({PINS: pins("a b")}, "BAD_VALUE"),
        ({PINS: pins("a", inputSchema={"$ref": "https://evil.example/"})}, "SCHEMA_REFERENCE"),
        (
            {PINS: pins("a", inputSchema={"$schema": "http://json-schema.org/draft-04/schema#"})},
            "SCHEMA_INVALID",
        ),
        ({PINS: pins("a", "a")}, "DUPLICATE_TOOL"),
        ({PINS: pins("a.b"), "state/mcp_pins/clock.a.json": pins("b")}, "DUPLICATE_TOOL"),
    ],
)
def test_mistakes_of_pins(files: dict[str, str], code: str) -> None:
    assert [problem.code for problem in check("{clock: {command: time}}", **files).problems] == [code]
